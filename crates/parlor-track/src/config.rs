//! The section `monitoring:`: which trackers a run reports to.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::secret::{Secret, optional};
use crate::tracking_uri::TrackingUri;

/// Where runs are reported. The files in `training.output_dir` (metrics.jsonl, run.json, loss.svg) are always written.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MonitoringConfig {
    /// Weights & Biases.
    pub wandb: WandbConfig,
    /// Comet.
    pub comet: CometConfig,
    /// MLflow.
    pub mlflow: MlflowConfig,
}

/// How W&B is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WandbMode {
    /// Metrics are sent while the run goes on.
    #[default]
    Online,
    /// Metrics are written to files that `wandb sync` sends later.
    Offline,
    /// Nothing is recorded.
    Disabled,
}

/// Weights & Biases. Not in this version: a run with `enabled: true` stops and says so.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct WandbConfig {
    /// Whether runs are reported to W&B. Not in this version: `true` is an error (unless `mode` is `disabled`).
    pub enabled: bool,
    /// Project that runs are filed under (environment: WANDB_PROJECT).
    pub project: String,
    /// User or team that owns the project. Empty: the API key's own.
    pub entity: Option<String>,
    /// Name of the run. Empty: one is made from the output directory and the time.
    pub name: Option<String>,
    /// Words to find the run by.
    pub tags: Vec<String>,
    /// `online` sends while the run goes on, `offline` writes files for a later sync, `disabled` does nothing.
    pub mode: WandbMode,
    /// API key. A secret: set it through the environment (WANDB_API_KEY) rather than in a file; it is shown as
    /// `********` everywhere, which read back means "not set".
    #[serde(deserialize_with = "optional")]
    pub api_key: Option<Secret>,
}

impl Default for WandbConfig {
    fn default() -> Self {
        Self {
            enabled: false,
            project: "custom-llm-chatbot".to_owned(),
            entity: None,
            name: None,
            tags: Vec::new(),
            mode: WandbMode::Online,
            api_key: None,
        }
    }
}

/// Comet. Not in this version: a run with `enabled: true` stops and says so.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CometConfig {
    /// Whether runs are reported to Comet. Not in this version: `true` is an error.
    pub enabled: bool,
    /// Project that runs are filed under.
    pub project_name: String,
    /// Workspace that owns the project. Empty: the API key's default.
    pub workspace: Option<String>,
    /// API key. A secret: set it through the environment (COMET_API_KEY) rather than in a file; it is shown as
    /// `********` everywhere, which read back means "not set".
    #[serde(deserialize_with = "optional")]
    pub api_key: Option<Secret>,
}

impl Default for CometConfig {
    fn default() -> Self {
        Self { enabled: false, project_name: "custom-llm-chatbot".to_owned(), workspace: None, api_key: None }
    }
}

/// MLflow, as a directory in its file-store layout.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MlflowConfig {
    /// Whether runs are recorded for MLflow. A store that cannot be written is a warning and never stops a run.
    pub enabled: bool,
    /// Where (environment: MLFLOW_TRACKING_URI): a directory, or its `file:` URI. Look at it with
    /// `MLFLOW_ALLOW_FILE_STORE=true mlflow ui --backend-store-uri DIR` (MLflow 3.13 and later need the
    /// variable, also for a plain `mlflow ui` beside a directory named `mlruns`). Servers (`http://...`) and
    /// databases (`sqlite:...`) are not in this version.
    #[schemars(length(min = 1))]
    pub tracking_uri: String,
    /// Experiment that runs are filed under; made when there is none of that name.
    #[schemars(length(min = 1, max = 500))]
    pub experiment_name: String,
    /// Name of the run. Empty: one is made from the output directory and the time.
    pub run_name: Option<String>,
}

impl Default for MlflowConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            tracking_uri: "./mlruns".to_owned(),
            experiment_name: "parlor".to_owned(),
            run_name: None,
        }
    }
}

/// A key that needs something unsupported, or that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsupported {
    /// The key, such as `monitoring.wandb.enabled`.
    pub key: &'static str,
    /// What is missing.
    pub why: String,
    /// What to do.
    pub help: String,
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.key, self.why, self.help)
    }
}

impl MonitoringConfig {
    /// The enabled keys that are not supported. A run starts only when this is empty.
    pub fn unsupported(&self) -> Vec<Unsupported> {
        let mut found = Vec::new();
        let mut add = |key, why: &str, help: &str| {
            found.push(Unsupported { key, why: why.to_owned(), help: help.to_owned() });
        };
        if self.wandb.enabled && self.wandb.mode != WandbMode::Disabled {
            add("monitoring.wandb.enabled", "W&B is not in this build yet", "set it to false");
        }
        if self.comet.enabled {
            add("monitoring.comet.enabled", "Comet is not in this build yet", "set it to false");
        }
        if !self.mlflow.enabled {
            return found;
        }
        let (uri, directory) = (
            "monitoring.mlflow.tracking_uri",
            "name a directory such as ./mlruns, or set monitoring.mlflow.enabled to false",
        );
        // The URI itself is not repeated: it may hold a password.
        match TrackingUri::parse(&self.mlflow.tracking_uri) {
            TrackingUri::Directory(_) => {}
            TrackingUri::Server => add(uri, "MLflow servers are not in this build yet", directory),
            TrackingUri::Database => add(uri, "databases of MLflow are not in this build yet", directory),
            TrackingUri::Databricks => add(uri, "Databricks is not in this build yet", directory),
            TrackingUri::Unknown(scheme) => {
                add(
                    uri,
                    &format!("`{scheme}` is neither a directory nor a URI that MLflow knows"),
                    directory,
                );
            }
            TrackingUri::Empty => add(uri, "it is empty", directory),
        }
        if self.mlflow.experiment_name.trim().is_empty() {
            add("monitoring.mlflow.experiment_name", "it is empty", "give it a name such as parlor");
        }
        found
    }
}
