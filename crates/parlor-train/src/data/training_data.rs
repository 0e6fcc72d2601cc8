//! What a run trains on, by its training type: examples with the objective that they are for.

use parlor_text::EncodeReport;

use super::stream::StreamSource;
use crate::error::TrainError;
use crate::objective::Objective;
use crate::objectives::{CrossEntropy, Preference, UnpairedPreference};
use crate::tokens::Sequence;

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
    /// Token sequences for next-token prediction.
    Tokens(ExampleSet<CrossEntropy>),
    /// Preference pairs.
    Pairs(ExampleSet<Preference>),
    /// Completions with a label.
    Unpaired(ExampleSet<UnpairedPreference>),
    /// Token sequences that are encoded while the run goes on.
    Stream(Box<StreamedExamples>),
}

/// Streamed training examples.
#[derive(Clone, Debug)]
pub struct StreamedExamples {
    /// Where the training examples come from.
    pub train: StreamSource,
    /// Evaluation examples, in memory; none means no evaluation.
    pub eval: Vec<Sequence>,
}

impl Examples {
    /// Number of training examples: of an epoch, or of the whole run when they are streamed.
    pub fn train_len(&self) -> usize {
        match self {
            Examples::Tokens(examples) => examples.train.len(),
            Examples::Pairs(examples) => examples.train.len(),
            Examples::Unpaired(examples) => examples.train.len(),
            Examples::Stream(streamed) => streamed.train.examples,
        }
    }

    /// Bytes that the training examples will take in addition to what they take already.
    pub(crate) fn bytes_to_come(&self) -> u64 {
        match self {
            Examples::Stream(streamed) => streamed.train.bytes(),
            Examples::Tokens(_) | Examples::Pairs(_) | Examples::Unpaired(_) => 0,
        }
    }
}

/// Data of a run.
#[derive(Clone, Debug)]
pub struct TrainingData {
    /// The examples.
    pub examples: Examples,
    /// Report of encoding the training rows; none when they are streamed.
    pub train_report: Option<EncodeReport>,
    /// SHA-256 of the training examples.
    pub train_sha256: String,
    /// Number of evaluation examples.
    pub eval_examples: usize,
    /// SHA-256 of the evaluation examples, when there are any.
    pub eval_sha256: Option<String>,
}

/// Returns the next examples, as many as asked for.
pub type NextExamples<'a, E> = dyn FnMut(usize) -> Result<Vec<E>, TrainError> + 'a;

/// Where the loop takes its training examples from.
pub enum ExampleSource<'a, E> {
    /// All of them, in memory.
    InMemory(&'a [E]),
    /// A stream.
    Stream {
        /// Number of examples that the run takes.
        examples: usize,
        /// The stream.
        next: Box<NextExamples<'a, E>>,
    },
}

impl<E> ExampleSource<'_, E> {
    /// Number of examples: of an epoch, or of the whole run when they are streamed.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::InMemory(examples) => examples.len(),
            Self::Stream { examples, .. } => *examples,
        }
    }
}
