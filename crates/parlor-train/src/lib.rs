//! Data to better weights: objectives, optimizers, the one loop, checkpoints.
//!
//! [`config::TrainingConfig`] is the `training:` section. The library's way in is `run::prepare`, which reads data
//! and model and refuses what cannot work, and then `run`. [`train`] is the loop itself, for callers with
//! examples of their own. Everything a run leaves behind appears whole or not at all (see [`mod@storage`]), and a run
//! that goes on from a checkpoint ends bit-identical to one that was never interrupted.
#![forbid(unsafe_code)]

pub mod checkpoint;
pub mod clip;
pub mod config;
pub mod identity;
pub mod objectives;
pub mod parlor_state;
pub mod steps;
pub mod storage;
pub mod trainer_state;

mod error;
mod evaluation;
mod event;
mod objective;
mod optimizer;
mod output_dir;
mod recorder;
mod schedule;
mod trainer;

pub use config::{Hyperparameters, TrainingConfig, TrainingType};
pub use error::{NonFinite, TrainError};
pub use evaluation::{Evaluation, evaluate_examples};
pub use event::{Flow, Outcome, StepReport, TrainEvent};
pub use objective::{Loss, MicroBatch, Objective};
pub use optimizer::{Optimizer, OptimizerError};
pub use output_dir::{OutputDir, Start};
pub use recorder::Recorder;
pub use schedule::Schedule;
pub use trainer::{BEST, Finished, Job, train};
