//! Data to better weights: objectives, optimizers, the one loop, checkpoints.
//!
//! [`Run::prepare`] reads data and model and refuses what cannot work; [`Run::train`] trains. [`plan`]
//! forecasts a run, and [`evaluate`] measures a model on rows. [`config::TrainingConfig`] is the `training:`
//! section of the configuration. [`train`] is the loop itself, for callers with a decoder and examples of
//! their own.
//!
//! Files and directories of a run are written atomically (see [`parlor_files`]), and a run that resumes from a
//! checkpoint ends bit-identical to one that was never interrupted.
#![forbid(unsafe_code)]

pub mod checkpoint;
pub mod config;
pub mod distributed;
pub mod objectives;

mod artifacts;
mod data;
mod error;
mod evaluate;
mod evaluation;
mod event;
mod forecast;
mod hash;
mod objective;
mod optim;
mod plan;
mod record;
mod reference;
mod run;
mod schedule;
mod steps;
mod tokens;
mod trainer;

pub use artifacts::{ModelArtifacts, TextArtifacts, trained_date};
pub use config::{Hyperparameters, TrainingConfig, TrainingType};
pub use data::{
    ExampleSet, ExampleSource, Examples, NextExamples, ReadRows, StreamSource, StreamedExamples,
    TrainingData, TrainingRows, read_training_rows,
};
pub use error::{NonFinite, TrainError};
pub use evaluate::{EvaluateRequest, EvaluateSummary, evaluate};
pub use evaluation::{Evaluation, evaluate_examples};
pub use event::{Flow, Outcome, StepReport, TrainEvent};
pub use forecast::{Change, Fix, Forecast, MemoryForecast, TooLarge};
pub use objective::{Loss, LossKind, Metric, MetricSums, MicroBatch, Objective, examples_sha256};
pub use optim::{Optimizer, OptimizerError, OtherStates};
pub use record::{Recorder, SAMPLES_FILE, SampleGenerator, SampleWriter};
pub use run::{OutputDir, Run, RunPlan, Start, TrainHooks, TrainRequest, TrainSummary, plan};
pub use schedule::Schedule;
pub use steps::StepPlan;
pub use tokens::{Sequence, TokenFile, TokenFileWriter};
pub use trainer::{BEST, Finished, LoopConfig, LoopExamples, LoopHooks, train};
