//! Preference data to examples: the ids of a prompt and of its completions.
//!
//! Rules are those of TRL's `DPOTrainer` and `KTOTrainer` (1.16). A completion begins where its ids first
//! differ from those of the prompt alone (in a pair, at the earlier of the two positions). An example whose
//! prompt fills `max_length` is left out; else prompt and completion are cut there, keeping the start.
//! `max_prompt_length`, removed from TRL in 0.29, first cuts the prompt and keeps its end, as it did there.
//! Unlike in TRL, pairs that the cut makes equal are left out, since they teach nothing.

use rayon::prelude::*;

use super::bad_rows::BadRows;
use super::completion::{EncodedCompletion, NO_TEMPLATE};
use super::findings::Inspector;
use super::long_rows::LongRows;
use super::report::{EncodeError, EncodeReport, Unusable, row_error};
use crate::config::{OnBadRow, OnLongRow};
use crate::datasets::{Content, Row, RowSource, SourcedRow};
use crate::template::ChatTemplate;
use crate::tokenizer::Tokenizer;

/// A preference pair: two completions of a prompt, the first preferred.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreferenceExample {
    /// `[tokens]` of the prompt.
    pub prompt: Vec<u32>,
    /// `[tokens]` of the preferred completion, at least one.
    pub chosen: Vec<u32>,
    /// `[tokens]` of the other completion, at least one.
    pub rejected: Vec<u32>,
    /// The row that it was made from.
    pub source: RowSource,
}

/// An unpaired preference: a completion of a prompt with its label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnpairedExample {
    /// `[tokens]` of the prompt.
    pub prompt: Vec<u32>,
    /// `[tokens]` of the completion, at least one.
    pub completion: Vec<u32>,
    /// `[tokens]` of a completion of another prompt, at least one.
    pub mismatched: Vec<u32>,
    /// The label: whether the completion is desirable.
    pub desirable: bool,
    /// The row that it was made from.
    pub source: RowSource,
}

/// How preference data becomes examples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PreferenceOptions {
    /// Longest prompt with one completion, in tokens.
    pub max_length: usize,
    /// Longest prompt, in tokens. None: only `max_length` limits it.
    pub max_prompt_length: Option<usize>,
    /// What happens to a row whose completions are empty or the same.
    pub on_bad_row: OnBadRow,
    /// What happens to a prompt that is longer than `max_length` with a completion.
    pub on_long_row: OnLongRow,
}

/// Pairs that [`encode_unpaired`] splits at a time: of so many rows the `chosen`, then the `rejected`, as TRL
/// orders them.
const UNPAIRED_AT_A_TIME: usize = 1000;

/// Encodes preference pairs, from rows with `chosen` and `rejected`.
///
/// # Errors
/// [`EncodeError`] naming the row, or when no row is left.
pub fn encode_preference(
    rows: &[SourcedRow],
    tokenizer: &Tokenizer,
    template: Option<&ChatTemplate>,
    options: &PreferenceOptions,
) -> Result<(Vec<PreferenceExample>, EncodeReport), EncodeError> {
    let mut encoder = PreferenceEncoder::new(tokenizer, template, options);
    let encoded = encoder.encode(
        rows,
        |sourced| sourced,
        |encoder, sourced| {
            let Row::Preference { prompt, chosen, rejected } = &sourced.row else {
                let expected = r#"pairs: {"prompt": ..., "chosen": ..., "rejected": ...}"#;
                return Err(Unusable::Unfit(wrong_kind(sourced, expected)));
            };
            let [chosen, rejected] =
                [chosen, rejected].map(|completion| encoder.completion(sourced, prompt, completion));
            Ok([chosen?, rejected?])
        },
    )?;
    let mut examples = Vec::with_capacity(rows.len());
    for (sourced, [a, b]) in encoded {
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

/// A completion of a row, with its label.
#[derive(Clone, Copy)]
struct LabelledCompletion<'r> {
    sourced: &'r SourcedRow,
    prompt: &'r Content,
    completion: &'r Content,
    desirable: bool,
}

/// Encodes unpaired preferences, from rows with `completion` and `label`, or with `chosen` (desirable) and
/// `rejected` (not desirable). Within each `group` examples in this order, `mismatched` of an example is the
/// completion of the one before.
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
    let completions = labelled_completions(rows)?;
    let mut encoder = PreferenceEncoder::new(tokenizer, template, options);
    let encoded = encoder.encode(
        &completions,
        |labelled| labelled.sourced,
        |encoder, labelled| {
            encoder.completion(labelled.sourced, labelled.prompt, labelled.completion).map(|ids| [ids])
        },
    )?;
    let mut whole = Vec::with_capacity(completions.len());
    for (LabelledCompletion { sourced, desirable, .. }, [ids]) in encoded {
        let (prompt, completion) = ids.whole.split_at(ids.boundary());
        if !encoder.is_bad(sourced, completion.is_empty(), EMPTY)
            && encoder.fits(sourced, prompt, completion.len())
        {
            whole.push((prompt.to_vec(), completion.to_vec(), *desirable, sourced.source.clone()));
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

/// The completions of rows in TRL's order: see [`UNPAIRED_AT_A_TIME`].
fn labelled_completions(rows: &[SourcedRow]) -> Result<Vec<LabelledCompletion<'_>>, EncodeError> {
    let mut completions = Vec::new();
    for rows in rows.chunks(UNPAIRED_AT_A_TIME) {
        for sourced in rows {
            let (prompt, completion, desirable) = match &sourced.row {
                Row::Unpaired { prompt, completion, desirable } => (prompt, completion, *desirable),
                Row::Preference { prompt, chosen, .. } => (prompt, chosen, true),
                _ => {
                    return Err(wrong_kind(
                        sourced,
                        r#"single answers: {"prompt": ..., "completion": ..., "label": true}, or pairs"#,
                    ));
                }
            };
            completions.push(LabelledCompletion { sourced, prompt, completion, desirable });
        }
        for sourced in rows {
            if let Row::Preference { prompt, rejected, .. } = &sourced.row {
                let completion = rejected;
                completions.push(LabelledCompletion { sourced, prompt, completion, desirable: false });
            }
        }
    }
    Ok(completions)
}

const EMPTY: &str = "an answer is empty: it adds no token to the prompt";

fn wrong_kind(sourced: &SourcedRow, expected: &str) -> EncodeError {
    let kind = sourced.row.kind();
    let why = format!(
        "this row is of kind `{kind}`, and this `training.dpo.loss_type` takes {expected}; correct the data, or \
         choose another `training.training_type` (`sft` takes rows without preferences)"
    );
    row_error(sourced, &why)
}

/// Encodes preference data, and counts what happens to it.
struct PreferenceEncoder<'a> {
    tokenizer: &'a Tokenizer,
    template: Option<&'a ChatTemplate>,
    options: &'a PreferenceOptions,
    inspector: Inspector,
    report: EncodeReport,
    bad: BadRows,
    long: LongRows,
}

impl<'a> PreferenceEncoder<'a> {
    fn new(
        tokenizer: &'a Tokenizer,
        template: Option<&'a ChatTemplate>,
        options: &'a PreferenceOptions,
    ) -> Self {
        Self {
            tokenizer,
            template,
            options,
            inspector: Inspector::new(tokenizer, template),
            report: EncodeReport::default(),
            bad: BadRows::new(options.on_bad_row),
            long: LongRows::new(options.on_long_row, options.max_length),
        }
    }

    /// Encodes `items`, each of the row that `row` returns, on all threads. Returns those that can be used,
    /// in order; counts bad rows, and the findings in the first completion of each of the others.
    fn encode<'i, T: Sync, const N: usize>(
        &mut self,
        items: &'i [T],
        row: impl Fn(&'i T) -> &'i SourcedRow,
        encode: impl Fn(&Self, &'i T) -> Result<[EncodedCompletion; N], Unusable> + Sync,
    ) -> Result<Vec<(&'i T, [EncodedCompletion; N])>, EncodeError> {
        let encoder = &*self;
        let encoded: Vec<_> = items.par_iter().map(|item| encode(encoder, item)).collect();
        let mut usable = Vec::with_capacity(items.len());
        for (item, completions) in items.iter().zip(encoded) {
            let sourced = row(item);
            let completions = match completions {
                Ok(completions) => completions,
                Err(Unusable::Unfit(error)) => return Err(error),
                Err(Unusable::Bad(why)) => {
                    self.bad.add(&sourced.source, &why);
                    continue;
                }
            };
            if let Some(EncodedCompletion { whole, .. }) = completions.first() {
                let last = whole.len().checked_sub(1);
                let findings = self.inspector.inspect(self.tokenizer, sourced, whole, last);
                self.inspector.count(&mut self.report.findings, sourced, findings);
            }
            usable.push((item, completions));
        }
        Ok(usable)
    }

    /// Encodes one completion of a row.
    fn completion(
        &self,
        sourced: &SourcedRow,
        prompt: &Content,
        completion: &Content,
    ) -> Result<EncodedCompletion, Unusable> {
        if self.template.is_none() && matches!(prompt, Content::Messages(_)) {
            return Err(Unusable::Unfit(row_error(sourced, &NO_TEMPLATE)));
        }
        EncodedCompletion::of(self.tokenizer, self.template, prompt, completion, &sourced.inputs)
            .map_err(Unusable::Bad)
    }

    /// Counts a row that is `bad`.
    fn is_bad(&mut self, sourced: &SourcedRow, bad: bool, why: &str) -> bool {
        if bad {
            self.bad.add(&sourced.source, &why);
        }
        bad
    }

    /// Number of tokens of this prompt that are kept.
    fn kept(&self, prompt: &[u32]) -> usize {
        self.options.max_prompt_length.map_or(prompt.len(), |limit| prompt.len().min(limit))
    }

    /// Whether the prompt with a completion of `completion` tokens is used: it may be too long, or the prompt
    /// alone may fill the limit. Counts those that are not.
    fn fits(&mut self, sourced: &SourcedRow, prompt: &[u32], completion: usize) -> bool {
        if !self.long.accepts(&sourced.source, self.kept(prompt) + completion) {
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

    /// Cuts a prompt that fits and its completions to the limits. Returns the longest completion that the
    /// prompt leaves room for, in tokens.
    fn cut(&mut self, prompt: &mut Vec<u32>, completions: &mut [&mut Vec<u32>]) -> usize {
        let first = prompt.len() - self.kept(prompt);
        prompt.drain(..first);
        let room = self.options.max_length.saturating_sub(prompt.len());
        if first > 0 || completions.iter().any(|completion| completion.len() > room) {
            self.report.truncated += 1;
        }
        for completion in completions {
            completion.truncate(room);
        }
        room
    }

    /// Counts an example.
    fn count(&mut self, prompt: usize, completions: usize) {
        self.report.examples += 1;
        self.report.trained_tokens += completions;
        self.report.total_tokens += prompt + completions;
    }

    fn finish<T>(mut self, rows: usize, examples: Vec<T>) -> Result<(Vec<T>, EncodeReport), EncodeError> {
        self.bad.check()?;
        self.long.check()?;
        self.report.dropped = self.long.dropped();
        if examples.is_empty() && self.bad.count() == rows {
            return Err(self.bad.error());
        }
        (self.report.bad, self.report.bad_rows) = self.bad.into_parts();
        if examples.is_empty() {
            let EncodeReport { untrained, dropped, .. } = self.report;
            let (bad, max_length) = (self.report.bad, self.options.max_length);
            return Err(EncodeError::NothingPreferred { rows, untrained, dropped, bad, max_length });
        }
        Ok((examples, self.report))
    }
}
