//! What a run trains on, by its training type: an objective with its examples.

use parlor_text::{
    ChatTemplate, DataConfig, EncodeError, EncodeOptions, EncodeReport, Example, PreferenceExample,
    PreferenceOptions, RowSource, SourcedRow, Tokenizer, UnpairedExample, encode_preference, encode_unpaired,
};

use crate::config::{JudgedLoss, TrainingConfig, TrainingType};
use crate::error::TrainError;
use crate::event::TrainEvent;
use crate::identity::examples_sha256;
use crate::materials::{TextSide, data_error, encoder, in_threads, pool, train_on};
use crate::objective::Objective;
use crate::objectives::{CrossEntropy, Judged, Preference, Prompted, Unpaired};
use crate::row_feed::RowFeed;
use crate::sequence::Sequence;
use crate::streaming::Streaming;
use crate::token_cache::{Slot, Written};
use crate::token_file::{TokenFile, TokenFileWriter};

/// An objective with its examples.
#[derive(Clone, Debug)]
pub struct Examples<O, E> {
    /// What is minimised.
    pub objective: O,
    /// Training examples, at least one.
    pub train: Vec<E>,
    /// Evaluation examples; none means no evaluation.
    pub eval: Vec<E>,
}

/// The examples of a run.
#[derive(Clone, Debug)]
pub enum Work {
    /// Sequences whose tokens are predicted.
    Tokens(Examples<CrossEntropy, Sequence>),
    /// Pairs of answers.
    Pairs(Examples<Preference, Prompted>),
    /// Single answers with a verdict.
    Judged(Examples<Unpaired, Judged>),
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

impl Work {
    /// Number of training examples.
    pub fn train_examples(&self) -> usize {
        match self {
            Work::Tokens(examples) => examples.train.len(),
            Work::Pairs(examples) => examples.train.len(),
            Work::Judged(examples) => examples.train.len(),
            Work::Stream(streamed) => streamed.streaming.examples,
        }
    }

    /// Bytes that its training examples will take beside what they take already.
    pub(crate) fn bytes_to_come(&self) -> u64 {
        match self {
            Work::Stream(streamed) => streamed.streaming.bytes(),
            Work::Tokens(_) | Work::Pairs(_) | Work::Judged(_) => 0,
        }
    }
}

/// Data of a run.
#[derive(Clone, Debug)]
pub struct RunData {
    /// The examples.
    pub work: Work,
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
    pub(crate) text: &'a TextSide,
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
pub(crate) type Rows<'a> = (&'a RowFeed, &'a mut Slot);

impl Encoding<'_> {
    /// Encodes training and evaluation rows; no evaluation rows mean no evaluation.
    ///
    /// # Errors
    /// [`TrainError::Data`] naming the row.
    pub(crate) fn encode(&mut self, train: Rows<'_>, eval: Option<Rows<'_>>) -> Result<RunData, TrainError> {
        if self.training.training_type == TrainingType::Dpo {
            let eval = eval.map(|(rows, _)| rows.all()).transpose()?;
            return self.encode_judged(&train.0.all()?, &eval.unwrap_or_default());
        }
        if self.data.streaming {
            return self.stream(train.0, eval);
        }
        let train = self.tokens(train)?;
        let eval = eval.map(|rows| self.tokens(rows)).transpose()?;
        let (eval, eval_sha256) = eval.map(|eval| (eval.sequences, eval.sha256)).unzip();
        let eval = eval.unwrap_or_default();
        Ok(RunData {
            train_sha256: train.sha256,
            eval_sha256,
            train_report: Some(train.report),
            eval_examples: eval.len(),
            work: Work::Tokens(Examples { objective: CrossEntropy, train: train.sequences, eval }),
        })
    }

    /// Training rows are only looked at when they are needed.
    fn stream(&mut self, rows: &RowFeed, eval: Option<Rows<'_>>) -> Result<RunData, TrainError> {
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
        Ok(RunData {
            train_sha256: streaming.sha256(),
            eval_sha256,
            train_report: None,
            eval_examples: eval.len(),
            work: Work::Stream(Box::new(Streamed { streaming, eval })),
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
    fn tokens(&mut self, (rows, slot): Rows<'_>) -> Result<Tokens, TrainError> {
        let training_type = self.training.training_type;
        let options = self.options();
        let key = slot.key(self.text, training_type, &options);
        if let Some(key) = &key
            && let Some((file, written)) = slot.take(key, self.warnings)
        {
            let text = format!("using the tokens of {} ({} examples)", file.path().display(), file.len());
            (self.observer)(TrainEvent::Note(text));
            self.warnings.extend(written.report.warnings());
            return Ok(Tokens::of_file(file, written.report));
        }
        let mut encoder = encoder(self.text, training_type, options);
        let pool = pool(self.training.dataloader_num_workers)?;
        let cannot = |error: EncodeError| data_error("cannot use the data", error);
        let (mut done, total) = (0, rows.survey.rows);
        let observer = &mut self.observer;
        let mut encode = |take: &mut (dyn FnMut(Example) + Send)| -> Result<(), TrainError> {
            rows.each(&mut |batch| {
                pool.install(|| encoder.batch(batch, take)).map_err(cannot)?;
                done += batch.len();
                observer(TrainEvent::Tokenized { done, total });
                Ok(())
            })
        };
        let Some(key) = key.filter(|_| slot.keeps()) else {
            let mut sequences = Vec::new();
            encode(&mut |example| sequences.push(Sequence::from(example)))?;
            let report = encoder.finish().map_err(cannot)?;
            self.warnings.extend(report.warnings());
            let sha256 = examples_sha256(&CrossEntropy, &sequences);
            return Ok(Tokens { sequences, report, sha256 });
        };
        let mut writer = TokenFileWriter::create(&slot.path)?;
        encode(&mut |example| writer.push(&example))?;
        let report = encoder.finish().map_err(cannot)?;
        self.warnings.extend(report.warnings());
        let file = writer.finish(Written { key, survey: rows.survey.clone(), report: report.clone() })?;
        Ok(Tokens::of_file(file, report))
    }

    fn encode_judged(&mut self, train: &[SourcedRow], eval: &[SourcedRow]) -> Result<RunData, TrainError> {
        let (data, reports) = self.judge(train, eval)?;
        self.warnings.extend(reports.iter().flat_map(EncodeReport::warnings));
        Ok(data)
    }

    /// The examples, and what came of the rows to train and to evaluate on.
    fn judge(&self, train: &[SourcedRow], eval: &[SourcedRow]) -> Result<JudgedData, TrainError> {
        let training = self.training;
        let options = PreferenceOptions {
            max_length: training.dpo.max_length.map_or(self.max_length, |length| length.min(self.max_length)),
            max_prompt_length: training.dpo.max_prompt_length,
            on_bad_row: self.data.on_bad_row,
            on_long_row: self.data.on_long_row,
        };
        match training.dpo.loss() {
            JudgedLoss::Pairs(objective) => run_data(objective, (train, eval), Work::Pairs, &|rows| {
                let (examples, report) = self
                    .judged(|tokenizer, template| encode_preference(rows, tokenizer, template, &options))?;
                let prompted = |pair: PreferenceExample| {
                    prompted(pair.prompt, [pair.chosen, pair.rejected], pair.source)
                };
                Ok((examples.into_iter().map(prompted).collect(), report))
            }),
            JudgedLoss::Single(weights) => {
                run_data(Unpaired(weights), (train, eval), Work::Judged, &|rows| {
                    let group = training.dpo.per_device_train_batch_size;
                    let (examples, report) = self.judged(|tokenizer, template| {
                        encode_unpaired(rows, tokenizer, template, &options, group)
                    })?;
                    let judged = |one: UnpairedExample| Judged {
                        desirable: one.desirable,
                        prompted: prompted(one.prompt, [one.completion, one.mismatched], one.source),
                    };
                    Ok((examples.into_iter().map(judged).collect(), report))
                })
            }
        }
    }

    /// Runs an encoder on the threads that the config allows.
    fn judged<T: Send>(
        &self,
        encode: impl FnOnce(&Tokenizer, Option<&ChatTemplate>) -> Result<T, EncodeError> + Send,
    ) -> Result<T, TrainError> {
        let TextSide { tokenizer, template } = self.text;
        let threads = self.training.dataloader_num_workers;
        in_threads(threads, || encode(tokenizer, template.as_ref()))?
            .map_err(|error| data_error("cannot use the data", error))
    }
}

fn prompted(prompt: Vec<u32>, answers: [Vec<u32>; 2], source: RowSource) -> Prompted {
    Prompted { prompt, answers, reference: Vec::new(), source }
}

type JudgedData = (RunData, Vec<EncodeReport>);
type Encoded<E> = Result<(Vec<E>, EncodeReport), TrainError>;

fn run_data<O: Objective>(
    objective: O,
    (train, eval): (&[SourcedRow], &[SourcedRow]),
    work: fn(Examples<O, O::Example>) -> Work,
    encode: &dyn Fn(&[SourcedRow]) -> Encoded<O::Example>,
) -> Result<JudgedData, TrainError> {
    let (train, train_report) = encode(train)?;
    let mut reports = vec![train_report.clone()];
    let mut evaluated = Vec::new();
    if !eval.is_empty() {
        let (examples, report) = encode(eval)?;
        evaluated = examples;
        reports.push(report);
    }
    let eval = evaluated;
    let data = RunData {
        train_sha256: examples_sha256(&objective, &train),
        eval_sha256: (!eval.is_empty()).then(|| examples_sha256(&objective, &eval)),
        train_report: Some(train_report),
        eval_examples: eval.len(),
        work: work(Examples { objective, train, eval }),
    };
    Ok((data, reports))
}
