//! What a run trains on, by its training type: an objective with its examples.

use parlor_text::{
    ChatTemplate, DataConfig, EncodeError, EncodeOptions, EncodeReport, Example, PreferenceExample,
    PreferenceOptions, RowSource, SourcedRow, Tokenizer, UnpairedExample, encode_preference, encode_unpaired,
};

use crate::config::{JudgedLoss, TrainingConfig, TrainingType};
use crate::error::TrainError;
use crate::event::TrainEvent;
use crate::identity::examples_sha256;
use crate::materials::{TextArtifacts, data_error, encoder, in_threads, pool, train_on};
use crate::objective::Objective;
use crate::objectives::{CompletionPair, CrossEntropy, LabeledCompletion, Preference, UnpairedPreference};
use crate::row_feed::RowReader;
use crate::sequence::Sequence;
use crate::streaming::Streaming;
use crate::token_cache::{CacheEntry, CacheHeader};
use crate::token_file::{TokenFile, TokenFileWriter};

/// An objective with its examples.
#[derive(Clone, Debug)]
pub struct ExampleSet<O: Objective> {
    /// What is minimised.
    pub objective: O,
    /// Training examples, at least one.
    pub train: Vec<O::Example>,
    /// Evaluation examples; none means no evaluation.
    pub eval: Vec<O::Example>,
}

/// The examples of a run.
#[derive(Clone, Debug)]
pub enum Examples {
    /// Sequences whose tokens are predicted.
    Tokens(ExampleSet<CrossEntropy>),
    /// Pairs of answers.
    Pairs(ExampleSet<Preference>),
    /// Single answers with a verdict.
    Unpaired(ExampleSet<UnpairedPreference>),
    /// Sequences that are made while the run goes on.
    Stream(Box<Streamed>),
}

/// Sequences to come.
#[derive(Clone, Debug)]
pub struct Streamed {
    /// Those to train on.
    pub streaming: Streaming,
    /// Evaluation examples, which are there; none means no evaluation.
    pub eval: Vec<Sequence>,
}

impl Examples {
    /// Number of training examples.
    pub fn train_examples(&self) -> usize {
        match self {
            Examples::Tokens(examples) => examples.train.len(),
            Examples::Pairs(examples) => examples.train.len(),
            Examples::Unpaired(examples) => examples.train.len(),
            Examples::Stream(streamed) => streamed.streaming.examples,
        }
    }

    /// Bytes that its training examples will take beside what they take already.
    pub(crate) fn bytes_to_come(&self) -> u64 {
        match self {
            Examples::Stream(streamed) => streamed.streaming.bytes(),
            Examples::Tokens(_) | Examples::Pairs(_) | Examples::Unpaired(_) => 0,
        }
    }
}

/// Data of a run.
#[derive(Clone, Debug)]
pub struct TrainingData {
    /// The examples.
    pub examples: Examples,
    /// What came of the training rows; none of those that are still to be read.
    pub train_report: Option<EncodeReport>,
    /// Hash of the training examples.
    pub train_sha256: String,
    /// Number of evaluation examples.
    pub eval_examples: usize,
    /// Hash of the evaluation examples, when there are any.
    pub eval_sha256: Option<String>,
}

/// Sequences of one use of rows.
struct Tokens {
    sequences: Vec<Sequence>,
    report: EncodeReport,
    sha256: String,
}

impl Tokens {
    fn of_file(file: TokenFile, report: EncodeReport) -> Self {
        Self { sha256: file.sha256().to_owned(), report, sequences: file.sequences() }
    }
}

/// Rows that become examples, and how.
pub(crate) struct Encoding<'a> {
    pub(crate) training: &'a TrainingConfig,
    pub(crate) text: &'a TextArtifacts,
    /// `data.max_length`, or what the model takes.
    pub(crate) max_length: usize,
    /// The data's own settings.
    pub(crate) data: &'a DataConfig,
    /// Examples that a run takes which streams them.
    pub(crate) streamed_examples: usize,
    /// Hears how far it is.
    pub(crate) observer: &'a mut dyn FnMut(TrainEvent),
    /// What the user should know.
    pub(crate) warnings: &'a mut Vec<String>,
}

/// Rows, and where their tokens are kept.
pub(crate) type Rows<'a> = (&'a RowReader, &'a mut CacheEntry);

impl Encoding<'_> {
    /// Encodes training and evaluation rows; no evaluation rows mean no evaluation.
    ///
    /// # Errors
    /// [`TrainError::Data`] naming the row.
    pub(crate) fn encode(
        &mut self,
        train: Rows<'_>,
        eval: Option<Rows<'_>>,
    ) -> Result<TrainingData, TrainError> {
        if self.training.training_type == TrainingType::Dpo {
            let eval = eval.map(|(rows, _)| rows.all()).transpose()?;
            return self.encode_preferences(&train.0.all()?, &eval.unwrap_or_default());
        }
        if self.data.streaming {
            return self.stream(train.0, eval);
        }
        let train = self.tokens(train)?;
        let eval = eval.map(|rows| self.tokens(rows)).transpose()?;
        let (eval, eval_sha256) = eval.map(|eval| (eval.sequences, eval.sha256)).unzip();
        let eval = eval.unwrap_or_default();
        Ok(TrainingData {
            train_sha256: train.sha256,
            eval_sha256,
            train_report: Some(train.report),
            eval_examples: eval.len(),
            examples: Examples::Tokens(ExampleSet { objective: CrossEntropy, train: train.sequences, eval }),
        })
    }

    /// Training rows are only looked at when they are needed.
    fn stream(&mut self, rows: &RowReader, eval: Option<Rows<'_>>) -> Result<TrainingData, TrainError> {
        let streaming = Streaming {
            rows: rows.clone(),
            text: self.text.clone(),
            training_type: self.training.training_type,
            options: self.options(),
            seed: self.training.seed,
            threads: self.training.dataloader_num_workers,
            examples: self.streamed_examples,
        };
        let eval = eval.map(|rows| self.tokens(rows)).transpose()?;
        let (eval, eval_sha256) = eval.map(|eval| (eval.sequences, eval.sha256)).unzip();
        let eval = eval.unwrap_or_default();
        Ok(TrainingData {
            train_sha256: streaming.sha256(),
            eval_sha256,
            train_report: None,
            eval_examples: eval.len(),
            examples: Examples::Stream(Box::new(Streamed { streaming, eval })),
        })
    }

    fn options(&self) -> EncodeOptions {
        EncodeOptions {
            max_length: self.max_length,
            batch_size: self.data.batch_size,
            train_on: train_on(self.training.sft.train_on),
            on_long_row: self.data.on_long_row,
            on_bad_row: self.data.on_bad_row,
        }
    }

    /// The tokens of rows: those of an earlier run, or new ones, which are kept for a later one.
    fn tokens(&mut self, (rows, entry): Rows<'_>) -> Result<Tokens, TrainError> {
        let training_type = self.training.training_type;
        let options = self.options();
        let key = entry.key(self.text, training_type, &options);
        if let Some(key) = &key
            && let Some((file, header)) = entry.take(key, self.warnings)
        {
            let text = format!("using the tokens of {} ({} examples)", file.path().display(), file.len());
            (self.observer)(TrainEvent::Note(text));
            self.warnings.extend(header.report.warnings());
            return Ok(Tokens::of_file(file, header.report));
        }
        let mut encoder = encoder(self.text, training_type, options);
        let pool = pool(self.training.dataloader_num_workers)?;
        let cannot = |error: EncodeError| data_error("cannot use the data", error);
        let (mut done, total) = (0, rows.statistics.rows);
        let observer = &mut self.observer;
        let mut encode = |take: &mut (dyn FnMut(Example) + Send)| -> Result<(), TrainError> {
            rows.each(&mut |batch| {
                pool.install(|| encoder.batch(batch, take)).map_err(cannot)?;
                done += batch.len();
                observer(TrainEvent::Tokenized { done, total });
                Ok(())
            })
        };
        let Some(key) = key.filter(|_| entry.keeps()) else {
            let mut sequences = Vec::new();
            encode(&mut |example| sequences.push(Sequence::from(example)))?;
            let report = encoder.finish().map_err(cannot)?;
            self.warnings.extend(report.warnings());
            let sha256 = examples_sha256(&CrossEntropy, &sequences);
            return Ok(Tokens { sequences, report, sha256 });
        };
        let mut writer = TokenFileWriter::create(&entry.path)?;
        encode(&mut |example| writer.push(&example))?;
        let report = encoder.finish().map_err(cannot)?;
        self.warnings.extend(report.warnings());
        let file = writer.finish(CacheHeader {
            key,
            statistics: rows.statistics.clone(),
            report: report.clone(),
        })?;
        Ok(Tokens::of_file(file, report))
    }

    fn encode_preferences(
        &mut self,
        train: &[SourcedRow],
        eval: &[SourcedRow],
    ) -> Result<TrainingData, TrainError> {
        let (data, reports) = self.preference_data(train, eval)?;
        self.warnings.extend(reports.iter().flat_map(EncodeReport::warnings));
        Ok(data)
    }

    /// The examples, and what came of the rows to train and to evaluate on.
    fn preference_data(
        &self,
        train: &[SourcedRow],
        eval: &[SourcedRow],
    ) -> Result<PreferenceData, TrainError> {
        let training = self.training;
        let options = PreferenceOptions {
            max_length: training.dpo.max_length.map_or(self.max_length, |length| length.min(self.max_length)),
            max_prompt_length: training.dpo.max_prompt_length,
            on_bad_row: self.data.on_bad_row,
            on_long_row: self.data.on_long_row,
        };
        match training.dpo.loss() {
            JudgedLoss::Pairs(objective) => run_data(objective, (train, eval), Examples::Pairs, &|rows| {
                let (examples, report) = self
                    .in_pool(|tokenizer, template| encode_preference(rows, tokenizer, template, &options))?;
                let completion_pair_of = |pair: PreferenceExample| {
                    completion_pair(pair.prompt, [pair.chosen, pair.rejected], pair.source)
                };
                Ok((examples.into_iter().map(completion_pair_of).collect(), report))
            }),
            JudgedLoss::Single(weights) => {
                run_data(UnpairedPreference(weights), (train, eval), Examples::Unpaired, &|rows| {
                    let group = training.dpo.per_device_train_batch_size;
                    let (examples, report) = self.in_pool(|tokenizer, template| {
                        encode_unpaired(rows, tokenizer, template, &options, group)
                    })?;
                    let labeled = |one: UnpairedExample| LabeledCompletion {
                        desirable: one.desirable,
                        pair: completion_pair(one.prompt, [one.completion, one.mismatched], one.source),
                    };
                    Ok((examples.into_iter().map(labeled).collect(), report))
                })
            }
        }
    }

    /// Runs an encoder on the threads that the config allows.
    fn in_pool<T: Send>(
        &self,
        encode: impl FnOnce(&Tokenizer, Option<&ChatTemplate>) -> Result<T, EncodeError> + Send,
    ) -> Result<T, TrainError> {
        let TextArtifacts { tokenizer, template } = self.text;
        let threads = self.training.dataloader_num_workers;
        in_threads(threads, || encode(tokenizer, template.as_ref()))?
            .map_err(|error| data_error("cannot use the data", error))
    }
}

fn completion_pair(prompt: Vec<u32>, completions: [Vec<u32>; 2], source: RowSource) -> CompletionPair {
    CompletionPair { prompt, completions, reference: Vec::new(), source }
}

type PreferenceData = (TrainingData, Vec<EncodeReport>);
type Encoded<E> = Result<(Vec<E>, EncodeReport), TrainError>;

fn run_data<O: Objective>(
    objective: O,
    (train, eval): (&[SourcedRow], &[SourcedRow]),
    examples: fn(ExampleSet<O>) -> Examples,
    encode: &dyn Fn(&[SourcedRow]) -> Encoded<O::Example>,
) -> Result<PreferenceData, TrainError> {
    let (train, train_report) = encode(train)?;
    let mut reports = vec![train_report.clone()];
    let mut evaluated = Vec::new();
    if !eval.is_empty() {
        let (examples, report) = encode(eval)?;
        evaluated = examples;
        reports.push(report);
    }
    let eval = evaluated;
    let data = TrainingData {
        train_sha256: examples_sha256(&objective, &train),
        eval_sha256: (!eval.is_empty()).then(|| examples_sha256(&objective, &eval)),
        train_report: Some(train_report),
        eval_examples: eval.len(),
        examples: examples(ExampleSet { objective, train, eval }),
    };
    Ok((data, reports))
}
