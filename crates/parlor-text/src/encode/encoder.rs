//! Rows to training examples: ids, and per id the weight of its being predicted. Masks are weights.
//!
//! Rules for prompt/completion and conversational rows follow TRL's `SFTTrainer` (1.16): loss on the completion,
//! EOS after plain text, the boundary at the common token prefix. Rows with judged answers are in `preference.rs`.

use rayon::prelude::*;
use serde::Serialize;

use crate::assistant::{encode_conversation, encode_for_training};
use crate::bad_rows::BadRows;
use crate::chat::Message;
use crate::config::{OnBadRow, OnLongRow};
use crate::continuation::{Continuation, NO_TEMPLATE, ended, text_ids};
use crate::datasets::{Content, Row, RowProblem, RowSource, SourcedRow};
use crate::encode_report::{EncodeError, EncodeReport, Unusable, bad, row_error};
use crate::findings::{Inspector, note_cut};
use crate::long_rows::LongRows;
use crate::template::{ChatTemplate, RenderOptions};
use crate::tokenizer::{SpecialTokens, Tokenizer, TokenizerError};

/// One sequence to train on.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    /// `[tokens]`.
    pub ids: Vec<u32>,
    /// `[tokens]`: weight of predicting `ids[t]` from those before it. The first is 0: nothing precedes it.
    pub weights: Vec<f32>,
    /// The row it was made from.
    pub source: RowSource,
}

/// Which tokens of a conversation are trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TrainOn {
    /// The assistant's, or the completion's.
    AssistantOnly,
    /// All.
    All,
}

/// How rows become examples.
#[derive(Clone, Debug, PartialEq)]
pub struct EncodeOptions {
    /// Longest example in tokens.
    pub max_length: usize,
    /// Rows tokenised at a time.
    pub batch_size: usize,
    /// Which tokens count.
    pub train_on: TrainOn,
    /// What happens to rows that are longer than `max_length`; not read where long rows become several examples.
    pub on_long_row: OnLongRow,
    /// What happens to rows that cannot be rendered, or whose answers cannot be told apart.
    pub on_bad_row: OnBadRow,
}

/// Examples for fine-tuning: conversations, instructions, prompts with completions; plain texts count whole.
///
/// # Errors
/// [`EncodeError`] naming the row, or when nothing would be trained.
pub fn encode_sft(
    rows: &[SourcedRow],
    tokenizer: &Tokenizer,
    template: Option<&ChatTemplate>,
    options: &EncodeOptions,
) -> Result<(Vec<Example>, EncodeReport), EncodeError> {
    encode_all(Encoder::sft(tokenizer, template, options.clone()), rows)
}

/// Examples for training from scratch: every token counts; conversations are rendered by the template, texts end
/// with EOS and are cut into examples of `max_length` that overlap by one token, so that none goes unpredicted.
///
/// # Errors
/// [`EncodeError`] naming the row, or when nothing would be trained.
pub fn encode_pretraining(
    rows: &[SourcedRow],
    tokenizer: &Tokenizer,
    template: Option<&ChatTemplate>,
    options: &EncodeOptions,
) -> Result<(Vec<Example>, EncodeReport), EncodeError> {
    encode_all(Encoder::pretraining(tokenizer, template, options.clone()), rows)
}

fn encode_all(
    mut encoder: Encoder<'_>,
    rows: &[SourcedRow],
) -> Result<(Vec<Example>, EncodeReport), EncodeError> {
    let mut examples = Vec::new();
    for batch in rows.chunks(encoder.options.batch_size.max(1)) {
        encoder.batch(batch, &mut |example| examples.push(example))?;
    }
    Ok((examples, encoder.finish()?))
}

type Weighted = (Vec<u32>, Vec<f32>);

/// What happens to what is longer than `max_length`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Long {
    Cut,
    Split,
}

/// Makes examples of rows that come in batches.
pub struct Encoder<'a> {
    tokenizer: &'a Tokenizer,
    template: Option<&'a ChatTemplate>,
    options: EncodeOptions,
    /// What happens to long texts.
    texts: Long,
    rows: usize,
    report: EncodeReport,
    long: LongRows,
    bad: BadRows,
    inspector: Inspector,
}

impl<'a> Encoder<'a> {
    /// As [`encode_sft`].
    pub fn sft(tokenizer: &'a Tokenizer, template: Option<&'a ChatTemplate>, options: EncodeOptions) -> Self {
        let long = LongRows::new(options.on_long_row, options.max_length.max(2));
        let bad = BadRows::new(options.on_bad_row);
        let report = EncodeReport::default();
        let inspector = Inspector::new(tokenizer, template);
        Self { tokenizer, template, options, texts: Long::Cut, rows: 0, report, long, bad, inspector }
    }

    /// As [`encode_pretraining`].
    pub fn pretraining(
        tokenizer: &'a Tokenizer,
        template: Option<&'a ChatTemplate>,
        options: EncodeOptions,
    ) -> Self {
        let options = EncodeOptions { train_on: TrainOn::All, ..options };
        Self { texts: Long::Split, ..Self::sft(tokenizer, template, options) }
    }

    /// Hands the examples of the next rows to `take`, in the order of the rows, on however many threads they are made.
    /// Rows that cannot be used are noted for [`Self::check`].
    ///
    /// # Errors
    /// [`EncodeError`] when rows are of another kind than this takes.
    pub fn batch(&mut self, rows: &[SourcedRow], take: &mut dyn FnMut(Example)) -> Result<(), EncodeError> {
        self.rows += rows.len();
        let encode = |sourced| {
            let (ids, weights) = self.row(sourced)?;
            let trained = weights.iter().rposition(|&weight| weight > 0.0);
            let facts = self.inspector.look(self.tokenizer, sourced, &ids, trained);
            Ok((ids, weights, facts))
        };
        let encoded: Vec<_> = rows.par_iter().map(encode).collect();
        for (sourced, encoded) in rows.iter().zip(encoded) {
            match encoded {
                Ok((ids, weights, facts)) => {
                    self.inspector.note(&mut self.report.findings, sourced, facts);
                    self.push(&ids, &weights, sourced, take);
                }
                Err(Unusable::Unfit(error)) => return Err(error),
                Err(Unusable::Bad(why)) => self.bad.add(&sourced.source, &why),
            }
        }
        Ok(())
    }

    /// Whether all rows so far can be used, or those that cannot may be left out.
    ///
    /// # Errors
    /// [`EncodeError::Rows`].
    pub fn check(&self) -> Result<(), EncodeError> {
        self.bad.check()
    }

    /// The first of the rows so far that cannot be used.
    pub fn bad_rows(&self) -> &[RowProblem] {
        self.bad.first()
    }

    fn row(&self, sourced: &SourcedRow) -> Result<Weighted, Unusable> {
        let inputs = &sourced.inputs;
        match &sourced.row {
            Row::Messages { messages } => self.conversation(sourced, messages),
            row @ Row::Instruction { instruction, input, output, lead } => match self.template {
                None if lead.is_empty() && inputs.is_empty() => {
                    self.plain(&alpaca(instruction, input), output).map_err(|error| bad(&error))
                }
                _ => self.conversation(sourced, &row.conversation().unwrap_or_default()),
            },
            row @ Row::PromptCompletion { prompt, completion } => {
                let (tokenizer, template) = (self.tokenizer, self.template);
                if matches!(prompt, Content::Messages(_)) {
                    self.template(sourced)?;
                }
                let ids = Continuation::of(tokenizer, template, prompt, completion, inputs);
                let (ids, mut weights) = self.after(ids.map_err(Unusable::Bad)?);
                let whole = row.conversation().unwrap_or_default();
                self.spare(&whole, &inputs.render_options(), &ids, &mut weights).map_err(Unusable::Bad)?;
                Ok((ids, weights))
            }
            Row::Text(text) => {
                let ids = text_ids(self.tokenizer, text).map_err(|error| bad(&error))?;
                Ok(self.ended(ids))
            }
            Row::Preference { .. } | Row::Unpaired { .. } => Err(Unusable::Unfit(row_error(
                sourced,
                &"a row with judged answers (`chosen` and `rejected`, or `label`) is for `training.training_type: dpo`",
            ))),
        }
    }

    fn template(&self, sourced: &SourcedRow) -> Result<&ChatTemplate, Unusable> {
        self.template.ok_or_else(|| Unusable::Unfit(row_error(sourced, &NO_TEMPLATE)))
    }

    fn conversation(&self, sourced: &SourcedRow, messages: &[Message]) -> Result<Weighted, Unusable> {
        let (template, options) = (self.template(sourced)?, sourced.inputs.render_options());
        if self.options.train_on == TrainOn::All {
            let text = template.render(messages, &options).map_err(|error| bad(&error))?.text;
            let ids = self.tokenizer.encode(&text, SpecialTokens::Omit).map_err(|error| bad(&error))?;
            let (ids, mut weights) = counted(ids);
            self.spare(messages, &options, &ids, &mut weights).map_err(Unusable::Bad)?;
            return Ok((ids, weights));
        }
        let encoded = encode_for_training(self.tokenizer, template, messages, &options);
        let encoded = encoded.map_err(|error| bad(&error))?;
        let weights = encoded.assistant_mask.iter().map(|&own| if own { 1.0 } else { 0.0 }).collect();
        Ok((encoded.ids, weights))
    }

    /// Takes the weight from what messages say that are not to be trained: the tokens that are the assistant's only when
    /// every message is.
    fn spare(
        &self,
        messages: &[Message],
        options: &RenderOptions,
        ids: &[u32],
        weights: &mut [f32],
    ) -> Result<(), String> {
        let Some(template) = self.template else { return Ok(()) };
        if messages.iter().all(Message::is_trained) {
            return Ok(());
        }
        let mask = |messages: &[Message]| {
            let encoded = encode_conversation(self.tokenizer, template, messages, options);
            encoded.map_err(|error| error.to_string())
        };
        let own = mask(messages)?;
        let all = mask(&messages.iter().map(Message::trained).collect::<Vec<_>>())?;
        if own.ids != ids || all.ids != ids {
            return Err("the chat template renders what says whether a message is trained".to_owned());
        }
        for (weight, (own, all)) in weights.iter_mut().zip(own.assistant_mask.iter().zip(all.assistant_mask))
        {
            if all && !own {
                *weight = 0.0;
            }
        }
        Ok(())
    }

    fn plain(&self, prompt: &str, completion: &str) -> Result<Weighted, TokenizerError> {
        Ok(self.after(Continuation::plain(self.tokenizer, prompt, completion)?))
    }

    /// Counts the completion.
    fn after(&self, ids: Continuation) -> Weighted {
        let boundary = match self.options.train_on {
            TrainOn::All => 0,
            TrainOn::AssistantOnly => ids.boundary(),
        };
        let weights = (0..ids.whole.len()).map(|at| if at < boundary { 0.0 } else { 1.0 }).collect();
        (ids.whole, weights)
    }

    /// All ids count, and EOS comes last.
    fn ended(&self, ids: Vec<u32>) -> Weighted {
        counted(ended(self.tokenizer, ids))
    }

    fn push(&mut self, ids: &[u32], weights: &[f32], sourced: &SourcedRow, take: &mut dyn FnMut(Example)) {
        let (limit, long) = (self.options.max_length.max(2), self.texts);
        let before = self.report.examples;
        if long == Long::Cut {
            if !self.long.takes(&sourced.source, ids.len()) {
                return;
            }
            if ids.len() > limit {
                self.report.truncated += 1;
                note_cut(&mut self.report.findings, sourced);
            }
        }
        let mut start = 0;
        while start + 1 < ids.len() {
            let end = (start + limit).min(ids.len());
            let mut weights = weights[start..end].to_vec();
            weights[0] = 0.0;
            if weights.iter().any(|&weight| weight > 0.0) {
                self.report.examples += 1;
                self.report.total_tokens += end - start;
                self.report.trained_tokens += weights.iter().filter(|&&weight| weight > 0.0).count();
                let source = sourced.source.clone();
                take(Example { ids: ids[start..end].to_vec(), weights, source });
            }
            if end == ids.len() || long == Long::Cut {
                break;
            }
            start = end - 1;
        }
        if self.report.examples == before {
            let cut = long == Long::Cut && ids.len() > limit;
            let why =
                if cut { "its answers are beyond `data.max_length`" } else { "nothing in it is trained" };
            self.report.untrained(&sourced.source, why);
        }
    }

    /// What came of all rows.
    ///
    /// # Errors
    /// [`EncodeError`] when rows were too long that must not be, or nothing would be trained.
    pub fn finish(mut self) -> Result<EncodeReport, EncodeError> {
        self.check()?;
        self.long.check()?;
        self.report.dropped = self.long.dropped();
        if self.report.examples == 0 && self.bad.count() > 0 {
            return Err(self.bad.error());
        }
        (self.report.bad, self.report.bad_rows) = self.bad.take();
        if self.report.examples == 0 {
            return Err(EncodeError::NothingTrained {
                rows: self.rows,
                untrained: self.report.untrained,
                truncated: self.report.truncated,
                dropped: self.report.dropped,
                max_length: self.options.max_length,
            });
        }
        Ok(self.report)
    }
}

fn counted(ids: Vec<u32>) -> Weighted {
    let weights = vec![1.0; ids.len()];
    (ids, weights)
}

/// The prompt of the Alpaca data set, for models without a chat template.
fn alpaca(instruction: &str, input: &str) -> String {
    let task = "Below is an instruction that describes a task";
    if input.is_empty() {
        format!(
            "{task}. Write a response that appropriately completes the request.\n\n\
             ### Instruction:\n{instruction}\n\n### Response:\n"
        )
    } else {
        format!(
            "{task}, paired with an input that provides further context. Write a response that appropriately \
             completes the request.\n\n### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n"
        )
    }
}
