//! Data to better weights: objectives, optimizers, the one loop, checkpoints.
//!
//! [`config::TrainingConfig`] is the `training:` section. The library's way in is [`prepare`], which reads data and
//! model and refuses what cannot work, and then [`Prepared::run`]. [`train`] is the loop itself, for callers with
//! examples of their own. Everything a run leaves behind appears whole or not at all (see [`mod@storage`]), and a run
//! that goes on from a checkpoint ends bit-identical to one that was never interrupted.
#![forbid(unsafe_code)]

pub mod checkpoint;
pub mod clip;
pub mod config;
pub mod distributed;
pub mod identity;
pub mod materials;
pub mod objectives;
pub mod parlor_state;
pub mod steps;
pub mod storage;
pub mod trainer_state;
pub mod training_rows;

mod adapter;
mod calibration;
mod error;
mod evaluate;
mod evaluation;
mod event;
mod fixes;
mod forecast;
mod groundwork;
mod objective;
mod optimizer;
mod output_dir;
mod prepared;
mod recorder;
mod reference;
mod reference_cache;
mod row_feed;
mod run;
mod run_date;
mod run_record;
mod samples;
mod schedule;
mod sequence;
mod streaming;
mod supply;
mod surroundings;
mod token_cache;
mod token_file;
mod trainer;
mod work;

pub use config::{Hyperparameters, TrainingConfig, TrainingType};
pub use error::{NonFinite, TrainError};
pub use evaluate::{EvaluateRequest, EvaluateSummary, evaluate};
pub use evaluation::{Evaluation, evaluate_examples};
pub use event::{Flow, Outcome, StepReport, TrainEvent};
pub use fixes::{Change, Fix, TooLarge};
pub use forecast::{Forecast, MemoryForecast};
pub use objective::{Loss, LossKind, Metric, MetricSums, MicroBatch, Objective};
pub use optimizer::{Optimizer, OptimizerError, OtherStates};
pub use output_dir::{OutputDir, Start};
pub use prepared::{Prepared, TrainSummary};
pub use recorder::Recorder;
pub use run::{RunPlan, TrainRequest, plan, prepare, prepare_observed};
pub use run_date::trained_date;
pub use samples::{SAMPLES_FILE, SampleGenerator};
pub use schedule::Schedule;
pub use sequence::Sequence;
pub use streaming::Streaming;
pub use supply::{ExampleSource, Next};
pub use surroundings::ModelArtifacts;
pub use token_file::{TokenFile, TokenFileWriter};
pub use trainer::{BEST, Finished, Job, Sample, train};
pub use work::{ExampleSet, Examples, TrainingData};
