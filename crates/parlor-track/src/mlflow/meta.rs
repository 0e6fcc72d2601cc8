//! The `meta.yaml` files of experiments and runs.
//!
//! Every text is written as a JSON string, which is YAML too and no reader of any YAML version mistakes for a
//! number, a date or a boolean. Read with a YAML parser, because MLflow writes these files too.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::TrackError;
use crate::mlflow::key::printable;
use crate::run_record::RunStatus;
use crate::whole_file;

pub(crate) const META: &str = "meta.yaml";

/// The fields of an experiment's file that are used.
#[derive(Debug, Deserialize)]
pub(crate) struct ExperimentMeta {
    pub(crate) experiment_id: Value,
    pub(crate) name: String,
    #[serde(default = "active")]
    pub(crate) lifecycle_stage: String,
}

fn active() -> String {
    "active".to_owned()
}

/// A run's file.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct RunMeta {
    pub(crate) artifact_uri: String,
    pub(crate) experiment_id: String,
    pub(crate) run_id: String,
    pub(crate) run_name: String,
    pub(crate) start_time: i64,
    #[serde(default)]
    pub(crate) end_time: Option<i64>,
    #[serde(default)]
    pub(crate) user_id: String,
    #[serde(default = "active")]
    pub(crate) lifecycle_stage: String,
}

/// MLflow's number for a status.
fn status_number(status: RunStatus) -> u8 {
    match status {
        RunStatus::Running => 1,
        RunStatus::Finished => 3,
        RunStatus::Failed => 4,
        RunStatus::Interrupted => 5,
    }
}

/// Reads an experiment's or a run's file.
pub(crate) fn read<T: for<'de> Deserialize<'de>>(directory: &Path) -> Result<T, TrackError> {
    let path = directory.join(META);
    let text = std::fs::read_to_string(&path).map_err(|source| TrackError::read(&path, source))?;
    serde_saphyr::from_str(&text).map_err(|error| TrackError::malformed(&path, error))
}

/// Writes an experiment's file.
pub(crate) fn write_experiment(
    directory: &Path,
    id: &str,
    name: &str,
    location: &str,
    created_ms: i64,
) -> Result<(), TrackError> {
    let fields = [
        ("artifact_location", json!(location)),
        ("creation_time", json!(created_ms)),
        ("experiment_id", json!(id)),
        ("last_update_time", json!(created_ms)),
        ("lifecycle_stage", json!("active")),
        ("name", json!(name)),
    ];
    whole_file::write(&directory.join(META), directory, yaml(&fields).as_bytes())
}

/// Writes a run's file.
pub(crate) fn write_run(directory: &Path, meta: &RunMeta, status: RunStatus) -> Result<(), TrackError> {
    let fields = [
        ("artifact_uri", json!(meta.artifact_uri)),
        ("end_time", json!(meta.end_time)),
        ("entry_point_name", json!("")),
        ("experiment_id", json!(meta.experiment_id)),
        ("lifecycle_stage", json!(meta.lifecycle_stage)),
        ("run_id", json!(meta.run_id)),
        ("run_name", json!(printable(&meta.run_name))),
        ("run_uuid", json!(meta.run_id)),
        ("source_name", json!("")),
        ("source_type", json!(4)),
        ("source_version", json!("")),
        ("start_time", json!(meta.start_time)),
        ("status", json!(status_number(status))),
        ("tags", json!([])),
        ("user_id", json!(printable(&meta.user_id))),
    ];
    whole_file::write(&directory.join(META), directory, yaml(&fields).as_bytes())
}

fn yaml(fields: &[(&str, Value)]) -> String {
    fields.iter().map(|(name, value)| format!("{name}: {value}\n")).collect()
}
