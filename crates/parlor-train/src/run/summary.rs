//! What a run ended with.

use std::path::PathBuf;

use serde::Serialize;

use crate::event::Outcome;
use crate::trainer::Finished;

/// Outcome of a run, as `parlor train --json` prints it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TrainSummary {
    /// Directory of the trained model, or of the newest checkpoint of an interrupted run.
    pub model_dir: PathBuf,
    /// Optimizer steps, those of earlier parts of the run included.
    pub steps: u64,
    /// The step whose model was saved: the last one, or with `load_best_model_at_end` that of the best
    /// evaluation.
    pub model_step: u64,
    /// Seconds of training, those of earlier parts included.
    pub seconds: f64,
    /// Tokens that went through the model in training, those of earlier parts included.
    pub tokens: u64,
    /// `tokens / seconds`.
    pub tokens_per_second: f64,
    /// Mean loss over all steps (as HF's `train_loss`): per trained token, or per example of preference
    /// data.
    pub train_loss: f64,
    /// Loss of the newest evaluation.
    pub eval_loss: Option<f64>,
    /// Peak resident memory of this process, in bytes.
    pub peak_memory_bytes: u64,
    /// Completed, stopped early, or interrupted.
    pub outcome: Outcome,
}

impl TrainSummary {
    /// The summary of a loop that ended, with the directory and the step of its model.
    pub(super) fn of(model_dir: PathBuf, model_step: u64, finished: &Finished) -> Self {
        let totals = finished.totals;
        Self {
            model_dir,
            steps: finished.steps,
            model_step,
            seconds: totals.seconds,
            tokens: totals.tokens,
            tokens_per_second: totals.tokens as f64 / totals.seconds.max(1e-9),
            train_loss: finished.train_loss,
            eval_loss: finished.eval_loss,
            peak_memory_bytes: parlor_model::memory::peak_resident_bytes().unwrap_or(0),
            outcome: finished.outcome,
        }
    }
}
