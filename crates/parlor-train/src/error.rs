//! Errors of a run: why it did not start, or stopped.

use std::path::PathBuf;

use parlor_model::DecoderError;

use crate::checkpoint::DamagedCheckpoint;
use crate::config::Problem;
use crate::forecast::TooLarge;
use crate::optim::OptimizerError;
use parlor_files::{FillError, WriteError};

/// What to do about a full disk; empty for other errors.
fn full_disk_help(error: &WriteError) -> &'static str {
    match error {
        WriteError::Full { .. } => {
            "; earlier checkpoints are intact; free some space or choose another `training.output_dir`, then \
             `parlor train --resume`"
        }
        WriteError::Other { .. } => "",
    }
}

/// A loss or gradient that is not finite.
#[derive(Clone, Debug, PartialEq)]
pub struct NonFinite {
    /// Number of the step, from 1.
    pub step: u64,
    /// `loss`, `gradient` or `evaluation loss`.
    pub what: &'static str,
    /// Its value.
    pub value: f64,
    /// Where the rows of the batch came from.
    pub rows: Vec<String>,
    /// Gradient norm of each parameter group.
    pub gradient_norms: Vec<(String, f64)>,
    /// Learning rate of the step.
    pub learning_rate: f64,
    /// The newest checkpoint, which was kept.
    pub last_checkpoint: Option<PathBuf>,
}

/// Rows named in a message.
const SHOWN_ROWS: usize = 16;

impl std::fmt::Display for NonFinite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { step, what, value, rows, gradient_norms, learning_rate, last_checkpoint } = self;
        write!(
            f,
            "the {what} of step {step} is {value} (learning rate {learning_rate:e}); nothing was updated or saved"
        )?;
        if !rows.is_empty() {
            write!(f, "\n  rows: {}", rows[..rows.len().min(SHOWN_ROWS)].join(", "))?;
            if rows.len() > SHOWN_ROWS {
                write!(f, " and {} more", rows.len() - SHOWN_ROWS)?;
            }
        }
        if !gradient_norms.is_empty() {
            let norms: Vec<String> =
                gradient_norms.iter().map(|(group, norm)| format!("{group} {norm:.3e}")).collect();
            write!(f, "\n  gradient norms: {}", norms.join(", "))?;
        }
        write!(f, "\n  {}", from_checkpoint(last_checkpoint))?;
        write!(f, "\n  try a lower learning rate, a longer warm-up, or look at these rows")
    }
}

/// Why a run did not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// Values of the config cannot work.
    #[error("the training config cannot work:{}", list(.0))]
    Config(Vec<Problem>),
    /// The config asks for what this build does not have.
    #[error("the config asks for what is not in this build yet:{}", list(.0))]
    Unsupported(Vec<Problem>),
    /// The data cannot be read or encoded.
    #[error("{what}: {source}")]
    Data {
        /// Which data.
        what: String,
        /// Why.
        source: FillError,
    },
    /// There is nothing to train on.
    #[error("{0}")]
    Nothing(String),
    /// The model or its tokenizer cannot be loaded or made.
    #[error(transparent)]
    Model(FillError),
    /// The output directory cannot be used.
    #[error("cannot write into {path}: {source}; choose another `training.output_dir`", path = path.display())]
    NotWritable {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The output directory holds another run.
    #[error(
        "{path} holds another run ({found}); go on with it by `--resume`, replace it by `--overwrite`, or choose \
         another `training.output_dir`",
        path = path.display()
    )]
    Occupied {
        /// The directory.
        path: PathBuf,
        /// What was found in it.
        found: String,
    },
    /// Another process trains into the same directory.
    #[error("another process is training into {path}", path = path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// There is no intact checkpoint to resume from.
    #[error("there is no checkpoint to resume from in {path}{}", passed_over(.damaged), path = path.display())]
    NothingToResume {
        /// The directory.
        path: PathBuf,
        /// Checkpoints that cannot be used.
        damaged: Vec<DamagedCheckpoint>,
    },
    /// The checkpoint that the user named cannot be used.
    #[error(transparent)]
    Damaged(Box<DamagedCheckpoint>),
    /// The config or the data differ from the checkpoint's.
    #[error(
        "{checkpoint} cannot be resumed with this config, because the result would be another:{}\n  undo these \
         changes, or start anew with `--overwrite` or another `training.output_dir`",
        lines(.differences),
        checkpoint = checkpoint.display()
    )]
    Changed {
        /// The checkpoint.
        checkpoint: PathBuf,
        /// A sentence per difference.
        differences: Vec<String>,
    },
    /// The run needs more memory than is available.
    #[error("{0}")]
    TooLarge(Box<TooLarge>),
    /// A loss or gradient is not finite.
    #[error("{0}")]
    NonFinite(Box<NonFinite>),
    /// The loss of an evaluation is not finite.
    #[error("the loss over {data} is {loss}: {why}")]
    EvaluatedNonFinite {
        /// The evaluation data.
        data: String,
        /// The loss.
        loss: f64,
        /// Which weights are not finite.
        why: String,
    },
    /// The loss watchdog stopped the run.
    #[error(
        "the loss was above `training.loss_watchdog_threshold` ({threshold}) for {steps} steps in a row, {loss:.4} at \
         step {step}: the run has broken down and is stopped\n  {}\n  try a lower learning rate, a longer warm-up, or \
         a higher threshold",
        from_checkpoint(.last_checkpoint)
    )]
    HighLoss {
        /// Steps done.
        step: u64,
        /// The last step's loss.
        loss: f64,
        /// Steps in a row whose loss was above the threshold.
        steps: u32,
        /// The threshold.
        threshold: f64,
        /// The newest checkpoint, which was kept.
        last_checkpoint: Option<PathBuf>,
    },
    /// `training.metric_for_best_model` names a metric that the evaluation does not have.
    #[error(
        "`training.metric_for_best_model` is `{name}`, which the evaluation does not give; it gives {}",
        known.join(", ")
    )]
    NoMetric {
        /// The name.
        name: String,
        /// The names of the metrics that the evaluation has.
        known: Vec<String>,
    },
    /// The decoder refused a batch.
    #[error("the model cannot run this batch ({rows}): {source}{}", advice(.source), rows = .rows.join(", "))]
    Batch {
        /// Where its rows came from.
        rows: Vec<String>,
        /// Why.
        source: Box<DecoderError>,
    },
    /// Optimizer state cannot be read or used.
    #[error(transparent)]
    Optimizer(Box<OptimizerError>),
    /// Something could not be written.
    #[error("{error}{help}", error = .0, help = full_disk_help(.0))]
    Storage(#[from] WriteError),
    /// Metrics could not be written.
    #[error("cannot record metrics: {0}")]
    Record(FillError),
}

impl From<OptimizerError> for TrainError {
    fn from(error: OptimizerError) -> Self {
        Self::Optimizer(Box::new(error))
    }
}

impl From<DamagedCheckpoint> for TrainError {
    fn from(error: DamagedCheckpoint) -> Self {
        Self::Damaged(Box::new(error))
    }
}

impl TrainError {
    /// An error about the data called `what`.
    pub(crate) fn data(what: impl Into<String>, source: impl Into<FillError>) -> Self {
        Self::Data { what: what.into(), source: source.into() }
    }

    /// Whether memory ran out even for a pass of one example.
    pub(crate) fn is_out_of_memory(&self) -> bool {
        matches!(self, TrainError::Batch { source, .. } if matches!(**source, DecoderError::OutOfMemory { .. }))
    }

    /// Whether nothing was started: a usage, configuration or input error (exit code 2), not a failure (1).
    pub fn before_start(&self) -> bool {
        !matches!(
            self,
            TrainError::NonFinite(_)
                | TrainError::EvaluatedNonFinite { .. }
                | TrainError::HighLoss { .. }
                | TrainError::NoMetric { .. }
                | TrainError::Batch { .. }
                | TrainError::Optimizer(_)
                | TrainError::Storage(_)
                | TrainError::Record(_)
        )
    }
}

/// What to do about a batch that does not fit into memory.
fn advice(error: &DecoderError) -> &'static str {
    match error {
        DecoderError::OutOfMemory { .. } => {
            "; free memory and go on with `--resume`, or cut rows by `data.max_length` in a new run"
        }
        _ => "",
    }
}

fn list(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("\n  {}: {}", problem.key, problem.message)).collect()
}

fn from_checkpoint(last: &Option<PathBuf>) -> String {
    match last {
        Some(path) => format!("the last good checkpoint is {}", path.display()),
        None => "no checkpoint was written yet".to_owned(),
    }
}

fn lines(sentences: &[String]) -> String {
    sentences.iter().map(|sentence| format!("\n  {sentence}")).collect()
}

fn passed_over(damaged: &[DamagedCheckpoint]) -> String {
    damaged.iter().map(|error| format!("\n  {error}")).collect()
}
