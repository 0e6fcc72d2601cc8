//! Records runs and metrics: local files (`metrics.jsonl`, `run.json`, `loss.svg`) and MLflow's file store.
//!
//! [`Run`] is the entry point: it starts the trackers that [`MonitoringConfig`] enables, logs a [`Row`] per
//! step, and finishes with a [`RunStatus`]. Failures of the local files are errors; failures of any other
//! [`Tracker`] are logged once per kind and never stop a training run. W&B, Comet, TensorBoard, Prometheus
//! and MLflow over HTTP are not supported yet; [`MonitoringConfig::unsupported`] names the keys that need
//! them.
#![forbid(unsafe_code)]

mod clock;
mod config;
mod curves;
mod error;
mod local_files;
mod metrics_file;
mod mlflow;
mod plot;
mod row;
mod run;
mod run_record;
mod secret;
mod tracker;
mod tracking_uri;
mod whole_file;

pub use clock::Clock;
pub use config::{CometConfig, MlflowConfig, MonitoringConfig, Unsupported, WandbConfig, WandbMode};
pub use curves::LossCurves;
pub use error::TrackError;
pub use local_files::{LOSS_FILE, LocalFiles, METRICS_FILE};
pub use metrics_file::read_rows;
pub use mlflow::{MlflowFileStore, MlflowRun};
pub use plot::loss_svg;
pub use row::{MetricValue, Row};
pub use run::{Run, RunStart};
pub use run_record::{RUN_FILE, Resumption, RunInfo, RunRecord, RunStatus};
pub use secret::{REDACTED, Secret};
pub use tracker::Tracker;
pub use tracking_uri::TrackingUri;
