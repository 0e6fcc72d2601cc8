//! Training and evaluation rows as the examples of the training type in force.

use parlor_text::{
    DataConfig, EncodeOptions, EncodeReport, PreferenceExample, PreferenceOptions, RowSource, SourcedRow,
    UnpairedExample, encode_preference, encode_unpaired,
};

use super::sequences::{CachedRows, SequenceEncoder, thread_pool, unusable};
use super::stream::StreamSource;
use super::training_data::{ExampleSet, Examples, StreamedExamples, TrainingData};
use crate::artifacts::TextArtifacts;
use crate::config::{TrainingConfig, TrainingType};
use crate::error::TrainError;
use crate::event::TrainEvent;
use crate::objective::{Objective, examples_sha256};
use crate::objectives::{CompletionPair, CrossEntropy, LabeledCompletion, Preference, UnpairedPreference};
use crate::tokens::Sequence;

/// Settings that determine the examples.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EncodeSettings<'a> {
    pub(crate) training: &'a TrainingConfig,
    pub(crate) data: &'a DataConfig,
    pub(crate) text: &'a TextArtifacts,
    /// Longest example, in tokens: `data.max_length`, or what the model takes.
    pub(crate) max_length: usize,
    /// Number of examples that a streaming run takes.
    pub(crate) streamed_examples: usize,
}

impl<'a> EncodeSettings<'a> {
    /// Encodes training rows and, where there are any, evaluation rows. Warnings for the user go to `warnings`.
    ///
    /// # Errors
    /// [`TrainError::Data`] naming the row.
    pub(crate) fn encode(
        &self,
        train: &mut CachedRows,
        eval: Option<&mut CachedRows>,
        observer: &mut dyn FnMut(TrainEvent),
        warnings: &mut Vec<String>,
    ) -> Result<TrainingData, TrainError> {
        if self.training.training_type == TrainingType::Dpo {
            let eval = eval.map(|rows| rows.reader.all()).transpose()?;
            return self.encode_preferences(&train.reader.all()?, &eval.unwrap_or_default(), warnings);
        }
        let encoder = self.sequence_encoder();
        if self.data.streaming {
            let (eval, eval_sha256) = encode_eval(&encoder, eval, observer, warnings)?;
            let train = self.stream(train);
            return Ok(TrainingData {
                train_sha256: train.sha256(),
                eval_sha256,
                train_report: None,
                eval_examples: eval.len(),
                examples: Examples::Stream(Box::new(StreamedExamples { train, eval })),
            });
        }
        let train = encoder.encode(train, observer, warnings)?;
        let (eval, eval_sha256) = encode_eval(&encoder, eval, observer, warnings)?;
        Ok(TrainingData {
            train_sha256: train.sha256,
            eval_sha256,
            train_report: Some(train.report),
            eval_examples: eval.len(),
            examples: Examples::Tokens(ExampleSet { objective: CrossEntropy, train: train.sequences, eval }),
        })
    }

    fn sequence_encoder(&self) -> SequenceEncoder<'a> {
        SequenceEncoder {
            text: self.text,
            training_type: self.training.training_type,
            options: self.options(),
            threads: self.training.dataloader_num_workers,
        }
    }

    fn stream(&self, rows: &CachedRows) -> StreamSource {
        StreamSource {
            rows: rows.reader.clone(),
            text: self.text.clone(),
            training_type: self.training.training_type,
            options: self.options(),
            seed: self.training.seed,
            threads: self.training.dataloader_num_workers,
            examples: self.streamed_examples,
        }
    }

    fn options(&self) -> EncodeOptions {
        EncodeOptions {
            max_length: self.max_length,
            batch_size: self.data.batch_size,
            train_on: self.training.sft.train_on.into(),
            on_long_row: self.data.on_long_row,
            on_bad_row: self.data.on_bad_row,
        }
    }

    fn encode_preferences(
        &self,
        train: &[SourcedRow],
        eval: &[SourcedRow],
        warnings: &mut Vec<String>,
    ) -> Result<TrainingData, TrainError> {
        let dpo = &self.training.dpo;
        match Preference::of(dpo) {
            Some(objective) => {
                let (set, report) = encode_set(objective, train, eval, warnings, &|rows| self.pairs(rows))?;
                Ok(preference_data(set, report, Examples::Pairs))
            }
            None => {
                let objective = UnpairedPreference::of(dpo);
                let (set, report) =
                    encode_set(objective, train, eval, warnings, &|rows| self.unpaired(rows))?;
                Ok(preference_data(set, report, Examples::Unpaired))
            }
        }
    }

    fn pairs(&self, rows: &[SourcedRow]) -> Encoded<CompletionPair> {
        let TextArtifacts { tokenizer, template } = self.text;
        let (examples, report) = thread_pool(self.training.dataloader_num_workers)?
            .install(|| encode_preference(rows, tokenizer, template.as_ref(), &self.preference_options()))
            .map_err(unusable)?;
        let pair = |one: PreferenceExample| pair_of(one.prompt, [one.chosen, one.rejected], one.source);
        Ok((examples.into_iter().map(pair).collect(), report))
    }

    fn unpaired(&self, rows: &[SourcedRow]) -> Encoded<LabeledCompletion> {
        let TextArtifacts { tokenizer, template } = self.text;
        let (options, group) = (self.preference_options(), self.training.dpo.per_device_train_batch_size);
        let (examples, report) = thread_pool(self.training.dataloader_num_workers)?
            .install(|| encode_unpaired(rows, tokenizer, template.as_ref(), &options, group))
            .map_err(unusable)?;
        let labeled = |one: UnpairedExample| LabeledCompletion {
            desirable: one.desirable,
            pair: pair_of(one.prompt, [one.completion, one.mismatched], one.source),
        };
        Ok((examples.into_iter().map(labeled).collect(), report))
    }

    fn preference_options(&self) -> PreferenceOptions {
        let dpo = &self.training.dpo;
        PreferenceOptions {
            max_length: dpo.max_length.map_or(self.max_length, |length| length.min(self.max_length)),
            max_prompt_length: dpo.max_prompt_length,
            on_bad_row: self.data.on_bad_row,
            on_long_row: self.data.on_long_row,
        }
    }
}

/// Evaluation sequences and their hash; none without evaluation rows.
fn encode_eval(
    encoder: &SequenceEncoder<'_>,
    rows: Option<&mut CachedRows>,
    observer: &mut dyn FnMut(TrainEvent),
    warnings: &mut Vec<String>,
) -> Result<(Vec<Sequence>, Option<String>), TrainError> {
    let Some(rows) = rows else { return Ok((Vec::new(), None)) };
    let encoded = encoder.encode(rows, observer, warnings)?;
    Ok((encoded.sequences, Some(encoded.sha256)))
}

fn pair_of(prompt: Vec<u32>, completions: [Vec<u32>; 2], source: RowSource) -> CompletionPair {
    CompletionPair { prompt, completions, reference: Vec::new(), source }
}

type Encoded<E> = Result<(Vec<E>, EncodeReport), TrainError>;

/// Examples of both splits, with the report of the training rows.
fn encode_set<O: Objective>(
    objective: O,
    train: &[SourcedRow],
    eval: &[SourcedRow],
    warnings: &mut Vec<String>,
    encode: &dyn Fn(&[SourcedRow]) -> Encoded<O::Example>,
) -> Result<(ExampleSet<O>, EncodeReport), TrainError> {
    let (train, train_report) = encode(train)?;
    warnings.extend(train_report.warnings());
    let eval = match eval {
        [] => Vec::new(),
        rows => {
            let (eval, report) = encode(rows)?;
            warnings.extend(report.warnings());
            eval
        }
    };
    Ok((ExampleSet { objective, train, eval }, train_report))
}

fn preference_data<O: Objective>(
    set: ExampleSet<O>,
    train_report: EncodeReport,
    examples: fn(ExampleSet<O>) -> Examples,
) -> TrainingData {
    let ExampleSet { objective, train, eval } = &set;
    TrainingData {
        train_sha256: examples_sha256(objective, train),
        eval_sha256: (!eval.is_empty()).then(|| examples_sha256(objective, eval)),
        train_report: Some(train_report),
        eval_examples: eval.len(),
        examples: examples(set),
    }
}
