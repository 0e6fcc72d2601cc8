//! Rows to examples for fine-tuning and pre-training: ids, and per id the weight of its loss. Masks are weights.
//!
//! Rules for prompt/completion and conversational rows follow TRL's `SFTTrainer` (1.16): loss on the
//! completion, EOS after plain text, the boundary at the common token prefix. Preference data is in
//! `preference.rs`.

use rayon::prelude::*;

use super::bad_rows::BadRows;
use super::completion::{EncodedCompletion, NO_TEMPLATE, framed_ids, with_eos};
use super::example::{EncodeOptions, Example, TrainOn};
use super::findings::{Inspector, count_cut};
use super::long_rows::LongRows;
use super::report::{EncodeError, EncodeReport, Unusable, bad, row_error};
use crate::datasets::{Content, Row, RowProblem, SourcedRow};
use crate::masks::{encode_conversation, encode_for_training};
use crate::message::Message;
use crate::template::{ChatTemplate, RenderOptions};
use crate::tokenizer::{SpecialTokens, Tokenizer, TokenizerError};

/// Encodes rows for fine-tuning: conversations, instructions, prompts with completions. Of plain texts all
/// tokens are trained.
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

/// Encodes rows for training from scratch. All tokens are trained. Conversations are rendered by the
/// template; texts end with EOS and are split into examples of `max_length` that overlap by one token, so
/// that every token is predicted once.
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

/// Ids with the weights of their losses.
type WeightedIds = (Vec<u32>, Vec<f32>);

/// What happens to ids beyond `max_length`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Overflow {
    Cut,
    Split,
}

/// Encodes rows batch by batch.
pub struct Encoder<'a> {
    tokenizer: &'a Tokenizer,
    template: Option<&'a ChatTemplate>,
    options: EncodeOptions,
    overflow: Overflow,
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
        Self { tokenizer, template, options, overflow: Overflow::Cut, rows: 0, report, long, bad, inspector }
    }

    /// As [`encode_pretraining`].
    pub fn pretraining(
        tokenizer: &'a Tokenizer,
        template: Option<&'a ChatTemplate>,
        options: EncodeOptions,
    ) -> Self {
        let options = EncodeOptions { train_on: TrainOn::All, ..options };
        Self { overflow: Overflow::Split, ..Self::sft(tokenizer, template, options) }
    }

    /// Encodes the next rows on all threads, and passes their examples to `consume` in the order of the rows.
    /// Rows that cannot be used are counted for [`Self::check`].
    ///
    /// # Errors
    /// [`EncodeError`] when the kind of the rows does not suit the training type.
    pub fn batch(
        &mut self,
        rows: &[SourcedRow],
        consume: &mut dyn FnMut(Example),
    ) -> Result<(), EncodeError> {
        self.rows += rows.len();
        let encode = |sourced| {
            let (ids, weights) = self.row(sourced)?;
            let trained = weights.iter().rposition(|&weight| weight > 0.0);
            let findings = self.inspector.inspect(self.tokenizer, sourced, &ids, trained);
            Ok((ids, weights, findings))
        };
        let encoded: Vec<_> = rows.par_iter().map(encode).collect();
        for (sourced, encoded) in rows.iter().zip(encoded) {
            match encoded {
                Ok((ids, weights, findings)) => {
                    self.inspector.count(&mut self.report.findings, sourced, findings);
                    self.push(&ids, &weights, sourced, consume);
                }
                Err(Unusable::Unfit(error)) => return Err(error),
                Err(Unusable::Bad(why)) => self.bad.add(&sourced.source, &why),
            }
        }
        Ok(())
    }

    /// Checks that all rows so far can be used, or that bad rows may be left out.
    ///
    /// # Errors
    /// [`EncodeError::Rows`].
    pub fn check(&self) -> Result<(), EncodeError> {
        self.bad.check()
    }

    /// The first bad rows so far.
    pub fn bad_rows(&self) -> &[RowProblem] {
        self.bad.first()
    }

    fn row(&self, sourced: &SourcedRow) -> Result<WeightedIds, Unusable> {
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
                let ids = EncodedCompletion::of(tokenizer, template, prompt, completion, inputs);
                let (ids, mut weights) = self.weighted(ids.map_err(Unusable::Bad)?);
                let whole = row.conversation().unwrap_or_default();
                self.mask_untrained(&whole, &inputs.render_options(), &ids, &mut weights)
                    .map_err(Unusable::Bad)?;
                Ok((ids, weights))
            }
            Row::Text(text) => {
                let ids = framed_ids(self.tokenizer, text).map_err(|error| bad(&error))?;
                Ok(all_trained(with_eos(self.tokenizer, ids)))
            }
            Row::Preference { .. } | Row::Unpaired { .. } => Err(Unusable::Unfit(row_error(
                sourced,
                &"preference data (`chosen` and `rejected`, or `label`) trains with `training.training_type: dpo`",
            ))),
        }
    }

    fn template(&self, sourced: &SourcedRow) -> Result<&ChatTemplate, Unusable> {
        self.template.ok_or_else(|| Unusable::Unfit(row_error(sourced, &NO_TEMPLATE)))
    }

    fn conversation(&self, sourced: &SourcedRow, messages: &[Message]) -> Result<WeightedIds, Unusable> {
        let (template, options) = (self.template(sourced)?, sourced.inputs.render_options());
        if self.options.train_on == TrainOn::All {
            let text = template.render(messages, &options).map_err(|error| bad(&error))?.text;
            let ids = self.tokenizer.encode(&text, SpecialTokens::Omit).map_err(|error| bad(&error))?;
            let (ids, mut weights) = all_trained(ids);
            self.mask_untrained(messages, &options, &ids, &mut weights).map_err(Unusable::Bad)?;
            return Ok((ids, weights));
        }
        let encoded = encode_for_training(self.tokenizer, template, messages, &options);
        let encoded = encoded.map_err(|error| bad(&error))?;
        let weights = encoded.assistant_mask.iter().map(|&own| if own { 1.0 } else { 0.0 }).collect();
        Ok((encoded.ids, weights))
    }

    /// Sets the weights of messages that are not to be trained to 0. Their tokens are those that are the
    /// assistant's when every message is trained, and are not by the messages' own flags.
    fn mask_untrained(
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
        let trained = mask(messages)?;
        let all_trained = mask(&messages.iter().map(Message::trained).collect::<Vec<_>>())?;
        if trained.ids != ids || all_trained.ids != ids {
            return Err("the chat template renders what says whether a message is trained".to_owned());
        }
        for (weight, (own, any)) in
            weights.iter_mut().zip(trained.assistant_mask.iter().zip(all_trained.assistant_mask))
        {
            if any && !own {
                *weight = 0.0;
            }
        }
        Ok(())
    }

    fn plain(&self, prompt: &str, completion: &str) -> Result<WeightedIds, TokenizerError> {
        Ok(self.weighted(EncodedCompletion::plain(self.tokenizer, prompt, completion)?))
    }

    /// The weights of a completion.
    fn weighted(&self, ids: EncodedCompletion) -> WeightedIds {
        let boundary = match self.options.train_on {
            TrainOn::All => 0,
            TrainOn::AssistantOnly => ids.boundary(),
        };
        let weights = (0..ids.whole.len()).map(|at| if at < boundary { 0.0 } else { 1.0 }).collect();
        (ids.whole, weights)
    }

    fn push(&mut self, ids: &[u32], weights: &[f32], sourced: &SourcedRow, consume: &mut dyn FnMut(Example)) {
        let (limit, overflow) = (self.options.max_length.max(2), self.overflow);
        let before = self.report.examples;
        if overflow == Overflow::Cut {
            if !self.long.accepts(&sourced.source, ids.len()) {
                return;
            }
            if ids.len() > limit {
                self.report.truncated += 1;
                count_cut(&mut self.report.findings, sourced);
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
                consume(Example { ids: ids[start..end].to_vec(), weights, source });
            }
            if end == ids.len() || overflow == Overflow::Cut {
                break;
            }
            start = end - 1;
        }
        if self.report.examples == before {
            let cut = overflow == Overflow::Cut && ids.len() > limit;
            let why =
                if cut { "its answers are beyond `data.max_length`" } else { "nothing in it is trained" };
            self.report.untrained(&sourced.source, why);
        }
    }

    /// The report of all rows.
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
        (self.report.bad, self.report.bad_rows) = self.bad.into_parts();
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

/// Ids that are all trained.
fn all_trained(ids: Vec<u32>) -> WeightedIds {
    let weights = vec![1.0; ids.len()];
    (ids, weights)
}

/// The Alpaca data set's prompt, for models without a chat template.
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
