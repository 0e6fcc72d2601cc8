//! Rows with judged answers to examples: ids of a prompt, and of the answers that may follow it.
//!
//! Rules are those of TRL's `DPOTrainer` and `KTOTrainer` (1.16): a completion begins where its ids and the prompt's
//! part (in a pair, at the earlier of the two places); an example whose prompt fills `max_length` is left out; then
//! prompt with completion is cut there, from the start. `max_prompt_length`, gone from TRL since 0.29, cuts a prompt
//! first as it did: its end stays. Left out besides, unlike there: pairs that the cut makes equal, which teach nothing.

use rayon::prelude::*;

use crate::bad_rows::BadRows;
use crate::config::{OnBadRow, OnLongRow};
use crate::continuation::{Continuation, NO_TEMPLATE};
use crate::datasets::{Content, Row, RowSource, SourcedRow};
use crate::encode_report::{EncodeError, EncodeReport, Unusable, row_error};
use crate::findings::Inspector;
use crate::long_rows::LongRows;
use crate::template::ChatTemplate;
use crate::tokenizer::Tokenizer;

/// Two answers to a prompt, the first better than the second.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreferenceExample {
    /// `[tokens]` of the prompt.
    pub prompt: Vec<u32>,
    /// `[tokens]` of the better answer, at least one.
    pub chosen: Vec<u32>,
    /// `[tokens]` of the worse answer, at least one.
    pub rejected: Vec<u32>,
    /// The row it was made from.
    pub source: RowSource,
}

/// An answer to a prompt with its verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnpairedExample {
    /// `[tokens]` of the prompt.
    pub prompt: Vec<u32>,
    /// `[tokens]` of the answer, at least one.
    pub completion: Vec<u32>,
    /// `[tokens]` of an answer to another prompt, at least one.
    pub mismatched: Vec<u32>,
    /// Whether the answer is wanted.
    pub desirable: bool,
    /// The row it was made from.
    pub source: RowSource,
}

/// How rows become such examples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PreferenceOptions {
    /// Longest prompt with one answer, in tokens.
    pub max_length: usize,
    /// Longest prompt, in tokens; none cuts no prompt on its own.
    pub max_prompt_length: Option<usize>,
    /// What happens to a row whose answers are empty or the same.
    pub on_bad_row: OnBadRow,
    /// What happens to a prompt that is longer than `max_length` with an answer.
    pub on_long_row: OnLongRow,
}

/// Rows that [`encode_unpaired`] takes apart at a time when they hold two answers, as TRL does.
const UNPAIRED_AT_A_TIME: usize = 1000;

/// Pairs, from rows with `chosen` and `rejected`.
///
/// # Errors
/// [`EncodeError`] naming the row, or when no row is left.
pub fn encode_preference(
    rows: &[SourcedRow],
    tokenizer: &Tokenizer,
    template: Option<&ChatTemplate>,
    options: &PreferenceOptions,
) -> Result<(Vec<PreferenceExample>, EncodeReport), EncodeError> {
    let ids = |sourced: &SourcedRow| {
        let Row::Preference { prompt, chosen, rejected } = &sourced.row else {
            let expected = r#"pairs: {"prompt": ..., "chosen": ..., "rejected": ...}"#;
            return Err(Unusable::Unfit(wrong_kind(sourced, expected)));
        };
        has_template(sourced, template, prompt)?;
        let of = |answer| {
            Continuation::of(tokenizer, template, prompt, answer, &sourced.inputs).map_err(Unusable::Bad)
        };
        Ok((of(chosen)?, of(rejected)?))
    };
    let ids: Vec<_> = rows.par_iter().map(ids).collect();
    let mut encoder = Encoder::new(options);
    let inspector = Inspector::new(tokenizer, template);
    let mut examples = Vec::with_capacity(rows.len());
    for (sourced, ids) in rows.iter().zip(ids) {
        let (a, b) = match ids {
            Ok(ids) => ids,
            Err(Unusable::Unfit(error)) => return Err(error),
            Err(Unusable::Bad(why)) => {
                encoder.bad.add(&sourced.source, &why);
                continue;
            }
        };
        let facts = inspector.look(tokenizer, sourced, &a.whole, a.whole.len().checked_sub(1));
        inspector.note(&mut encoder.report.findings, sourced, facts);
        let boundary = a.boundary().min(b.boundary());
        let mut prompt = a.whole[..boundary].to_vec();
        let (mut chosen, mut rejected) = (a.whole[boundary..].to_vec(), b.whole[boundary..].to_vec());
        if encoder.is_bad(sourced, chosen.is_empty() || rejected.is_empty(), EMPTY)
            || encoder.is_bad(sourced, chosen == rejected, "`chosen` and `rejected` are the same in tokens")
            || !encoder.fits(sourced, &prompt, chosen.len().max(rejected.len()))
        {
            continue;
        }
        encoder.cut(&mut prompt, &mut [&mut chosen, &mut rejected]);
        if chosen == rejected {
            encoder.report.untrained(&sourced.source, "its answers are the same up to `max_length`");
            continue;
        }
        encoder.count(prompt.len(), chosen.len() + rejected.len());
        examples.push(PreferenceExample { prompt, chosen, rejected, source: sourced.source.clone() });
    }
    encoder.finish(rows.len(), examples)
}

/// Single answers, from rows with `completion` and `label`, or with `chosen` (wanted) and `rejected` (not wanted).
/// Within each `group` examples in this order, `mismatched` of one is the answer of the one before.
///
/// # Errors
/// [`EncodeError`] naming the row, or when no row is left.
pub fn encode_unpaired(
    rows: &[SourcedRow],
    tokenizer: &Tokenizer,
    template: Option<&ChatTemplate>,
    options: &PreferenceOptions,
    group: usize,
) -> Result<(Vec<UnpairedExample>, EncodeReport), EncodeError> {
    let mut answers: Vec<(&SourcedRow, &Content, &Content, bool)> = Vec::new();
    for rows in rows.chunks(UNPAIRED_AT_A_TIME) {
        for sourced in rows {
            answers.push(match &sourced.row {
                Row::Unpaired { prompt, completion, desirable } => (sourced, prompt, completion, *desirable),
                Row::Preference { prompt, chosen, .. } => (sourced, prompt, chosen, true),
                _ => {
                    return Err(wrong_kind(
                        sourced,
                        r#"single answers: {"prompt": ..., "completion": ..., "label": true}, or pairs"#,
                    ));
                }
            });
        }
        for sourced in rows {
            if let Row::Preference { prompt, rejected, .. } = &sourced.row {
                answers.push((sourced, prompt, rejected, false));
            }
        }
    }
    let ids: Vec<_> = answers
        .par_iter()
        .map(|(sourced, prompt, answer, _)| {
            has_template(sourced, template, prompt)?;
            Continuation::of(tokenizer, template, prompt, answer, &sourced.inputs).map_err(Unusable::Bad)
        })
        .collect();
    let mut encoder = Encoder::new(options);
    let inspector = Inspector::new(tokenizer, template);
    let mut whole = Vec::with_capacity(answers.len());
    for ((sourced, _, _, desirable), ids) in answers.into_iter().zip(ids) {
        let ids = match ids {
            Ok(ids) => ids,
            Err(Unusable::Unfit(error)) => return Err(error),
            Err(Unusable::Bad(why)) => {
                encoder.bad.add(&sourced.source, &why);
                continue;
            }
        };
        let facts = inspector.look(tokenizer, sourced, &ids.whole, ids.whole.len().checked_sub(1));
        inspector.note(&mut encoder.report.findings, sourced, facts);
        let (prompt, completion) = ids.whole.split_at(ids.boundary());
        if !encoder.is_bad(sourced, completion.is_empty(), EMPTY)
            && encoder.fits(sourced, prompt, completion.len())
        {
            whole.push((prompt.to_vec(), completion.to_vec(), desirable, sourced.source.clone()));
        }
    }
    let mut examples = Vec::with_capacity(whole.len());
    for group in whole.chunks(group.max(1)) {
        for (index, (prompt, completion, desirable, source)) in group.iter().enumerate() {
            let (mut prompt, mut completion) = (prompt.clone(), completion.clone());
            let mut mismatched = group[(index + group.len() - 1) % group.len()].1.clone();
            let room = encoder.cut(&mut prompt, &mut [&mut completion]);
            mismatched.truncate(room);
            encoder.count(prompt.len(), completion.len());
            let (desirable, source) = (*desirable, source.clone());
            examples.push(UnpairedExample { prompt, completion, mismatched, desirable, source });
        }
    }
    encoder.finish(rows.len(), examples)
}

/// Messages need a template, whatever the row.
fn has_template(
    sourced: &SourcedRow,
    template: Option<&ChatTemplate>,
    prompt: &Content,
) -> Result<(), Unusable> {
    if template.is_none() && matches!(prompt, Content::Messages(_)) {
        return Err(Unusable::Unfit(row_error(sourced, &NO_TEMPLATE)));
    }
    Ok(())
}

const EMPTY: &str = "an answer is empty: it adds no token to the prompt";

fn wrong_kind(sourced: &SourcedRow, expected: &str) -> EncodeError {
    let kind = sourced.row.kind();
    let why = format!(
        "this row is of kind `{kind}`, and this `training.dpo.loss_type` takes {expected}; correct the data, or \
         choose another `training.training_type` (`sft` takes rows without a verdict)"
    );
    row_error(sourced, &why)
}

struct Encoder<'a> {
    options: &'a PreferenceOptions,
    report: EncodeReport,
    bad: BadRows,
    long: LongRows,
}

impl<'a> Encoder<'a> {
    fn new(options: &'a PreferenceOptions) -> Self {
        let long = LongRows::new(options.on_long_row, options.max_length);
        Self { options, report: EncodeReport::default(), bad: BadRows::new(options.on_bad_row), long }
    }

    /// Notes a row that is `bad`.
    fn is_bad(&mut self, sourced: &SourcedRow, bad: bool, why: &str) -> bool {
        if bad {
            self.bad.add(&sourced.source, &why);
        }
        bad
    }

    /// Tokens of this prompt that are kept.
    fn kept(&self, prompt: &[u32]) -> usize {
        self.options.max_prompt_length.map_or(prompt.len(), |limit| prompt.len().min(limit))
    }

    /// Whether the prompt leaves room for an answer, and one of so many tokens may be too long; counts it when not.
    fn fits(&mut self, sourced: &SourcedRow, prompt: &[u32], answer: usize) -> bool {
        if !self.long.takes(&sourced.source, self.kept(prompt) + answer) {
            return false;
        }
        let fits = self.kept(prompt) < self.options.max_length;
        if !fits {
            self.report.truncated += 1;
            self.report
                .untrained(&sourced.source, "its prompt leaves no room for an answer within `max_length`");
        }
        fits
    }

    /// Cuts a prompt that fits and its answers to the limits; returns the tokens that an answer may have.
    fn cut(&mut self, prompt: &mut Vec<u32>, answers: &mut [&mut Vec<u32>]) -> usize {
        let first = prompt.len() - self.kept(prompt);
        prompt.drain(..first);
        let room = self.options.max_length.saturating_sub(prompt.len());
        if first > 0 || answers.iter().any(|answer| answer.len() > room) {
            self.report.truncated += 1;
        }
        for answer in answers {
            answer.truncate(room);
        }
        room
    }

    fn count(&mut self, prompt: usize, answers: usize) {
        self.report.examples += 1;
        self.report.trained_tokens += answers;
        self.report.total_tokens += prompt + answers;
    }

    fn finish<T>(mut self, rows: usize, examples: Vec<T>) -> Result<(Vec<T>, EncodeReport), EncodeError> {
        self.bad.check()?;
        self.long.check()?;
        self.report.dropped = self.long.dropped();
        if examples.is_empty() && self.bad.count() == rows {
            return Err(self.bad.error());
        }
        (self.report.bad, self.report.bad_rows) = self.bad.take();
        if examples.is_empty() {
            let EncodeReport { untrained, dropped, .. } = self.report;
            let (bad, max_length) = (self.report.bad, self.options.max_length);
            return Err(EncodeError::NothingPreferred { rows, untrained, dropped, bad, max_length });
        }
        Ok((examples, self.report))
    }
}
