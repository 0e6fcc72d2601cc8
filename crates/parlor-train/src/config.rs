//! The `training:` section: what every training type shares, and one sub-section per training type.
//!
//! Names and defaults are those of HF's `TrainingArguments` where they exist. Each sub-section carries the same
//! hyper-parameters (see [`Hyperparameters`]); those of the training type in force apply.

mod best;
mod dpo;
mod from_scratch;
mod gradient_checkpointing;
mod hyperparameters;
mod lora;
mod optimizer;
mod problems;
mod scheduler;
mod sft;
mod training;

pub use best::BestMetric;
pub use dpo::{DpoConfig, DpoLoss};
pub use from_scratch::FromScratchConfig;
pub use gradient_checkpointing::GradientCheckpointing;
pub use hyperparameters::Hyperparameters;
pub use lora::{InitLoraName, InitLoraWeights, LoraConfig};
pub use optimizer::{AdjustLrFn, OptimArgs, OptimizerName, ParamGroup};
pub use problems::{Problem, problems, unsupported};
pub(crate) use scheduler::LR_END;
pub use scheduler::{LrSchedulerKwargs, Ramp, SchedulerName};
pub use sft::{SftConfig, TrainOn};
pub use training::{TrainingConfig, TrainingType};
