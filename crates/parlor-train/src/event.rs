//! Events of a run, and what the caller may reply.

use std::path::PathBuf;

use parlor_model::TrainableParameters;
use serde::Serialize;

use crate::steps::StepPlan;

/// The caller's reply to an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Continue.
    Continue,
    /// Continue, and write a checkpoint after the step in progress regardless of `save_steps`.
    Save,
    /// Finish the step, save, and return, as the stop flag does.
    Stop,
}

/// Something that happened in a run.
#[derive(Clone, Debug, PartialEq)]
pub enum TrainEvent {
    /// Before the first step.
    Started {
        /// Counts of steps and examples.
        plan: StepPlan,
        /// Steps done before the run was resumed.
        resumed_at: Option<u64>,
        /// Parameters of the model, and those that are trained.
        parameters: TrainableParameters,
        /// Evaluation examples.
        eval_examples: usize,
    },
    /// Progress of tokenization, before the run starts.
    Tokenized {
        /// Rows done.
        done: usize,
        /// Rows in all.
        total: usize,
    },
    /// Information for the user.
    Note(String),
    /// Progress of the reference model's log-probabilities, before the first step.
    Reference {
        /// Examples done.
        done: usize,
        /// Examples in all.
        total: usize,
    },
    /// A step is done.
    Step(StepReport),
    /// An evaluation is done.
    Evaluated {
        /// Steps done.
        step: u64,
        /// Mean loss: per token, or per example of preference data.
        loss: f64,
        /// Exponential of the loss, when it is per token.
        perplexity: Option<f64>,
        /// Whether it is the best so far.
        best: bool,
    },
    /// The model has completed one of `training.sample_prompts`.
    Sampled {
        /// Steps done.
        step: u64,
        /// The prompt.
        prompt: String,
        /// The completion.
        text: String,
    },
    /// A checkpoint is written.
    Saved {
        /// Steps done.
        step: u64,
        /// Its directory.
        path: PathBuf,
    },
    /// A warning for the user; the run continues.
    Warning(String),
}

/// Numbers of one step.
#[derive(Clone, Debug, PartialEq)]
pub struct StepReport {
    /// Steps done, including this one.
    pub step: u64,
    /// Steps in all.
    pub total_steps: u64,
    /// Epochs done, as a fraction.
    pub epoch: f64,
    /// Mean loss over the step's whole batch, before the update.
    pub loss: f64,
    /// Learning rate of the update.
    pub learning_rate: f64,
    /// Global norm of the gradient of the mean loss, before clipping.
    pub grad_norm: f64,
    /// Tokens that went through the model so far.
    pub tokens: u64,
    /// Tokens per second since the last logged step.
    pub tokens_per_second: f64,
    /// Resident memory now, in bytes.
    pub memory_bytes: u64,
    /// Estimated remaining seconds.
    pub eta_seconds: f64,
    /// Whether this step is one of those that `logging_steps` selects.
    pub logged: bool,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// All steps are done.
    Completed,
    /// The deciding metric stopped improving.
    StoppedEarly,
    /// The caller asked to stop; a checkpoint of the last step is saved.
    Interrupted,
}
