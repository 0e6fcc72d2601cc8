//! The composed configuration: one section per library, typed beside what it configures.

use std::collections::BTreeMap;

use parlor_model::ModelConfig;
use parlor_text::DataConfig;
use parlor_track::{MonitoringConfig, Secret};
use parlor_train::TrainingConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::serving::ServingConfig;

/// How much is logged to stderr.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// What failed.
    Error,
    /// And what is odd.
    #[default]
    Warning,
    /// And what happens.
    Info,
    /// And why.
    Debug,
    /// Everything.
    Trace,
}

/// Everything that can be configured. A section that is absent has its defaults.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Which model, and how it is loaded.
    pub model: ModelConfig,
    /// Training: which kind, where the results go, and how.
    pub training: TrainingConfig,
    /// Data for training and evaluation.
    pub data: DataConfig,
    /// Serving over HTTP (not in this build yet).
    pub serving: ServingConfig,
    /// Where runs are reported.
    pub monitoring: MonitoringConfig,
    /// Keys of your own, of any shape. Parlor keeps them and does not read them.
    pub custom: BTreeMap<String, serde_json::Value>,
    /// How much is logged to stderr: `error`, `warning`, `info`, `debug` or `trace` (environment: LOG_LEVEL). `-q` and
    /// `-v` count before it.
    pub log_level: LogLevel,
    /// Token for gated models on the hub (environment: HF_TOKEN). A secret: never shown, and better set through
    /// the environment than in a file. Not used in this version, which does not reach the hub.
    pub hf_token: Option<Secret>,
}
