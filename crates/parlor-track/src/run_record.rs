//! `run.json`: the inputs of a run, its times and status, and where else it is recorded.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::TrackError;
use crate::secret::REDACTED;

/// Name of the file in a run's output directory.
pub const RUN_FILE: &str = "run.json";

/// The status of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunStatus {
    /// Running, or killed before it could record its end.
    Running,
    /// Done, early stopping included.
    Finished,
    /// Ended by an error.
    Failed,
    /// Ended by the user, after saving.
    Interrupted,
}

impl RunStatus {
    /// The corresponding exit status of the program; none while it runs.
    pub fn exit_status(self) -> Option<i32> {
        match self {
            Self::Running => None,
            Self::Finished => Some(0),
            Self::Failed => Some(1),
            Self::Interrupted => Some(130),
        }
    }
}

/// The inputs of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunInfo {
    /// The command line, without secret values.
    pub command: Option<String>,
    /// Who started it.
    pub user: Option<String>,
    /// Versions of `parlor` and of libraries.
    pub versions: BTreeMap<String, String>,
    /// Random seeds by configuration key.
    pub seeds: BTreeMap<String, u64>,
    /// SHA-256 in hex of each data file or prepared set, by path or name.
    pub data_sha256: BTreeMap<String, String>,
    /// SHA-256 in hex of the chat template.
    pub template_sha256: Option<String>,
    /// The date that the chat template reads, `2026-01-31`; none when it reads none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template_date: Option<String>,
    /// Scalar settings by dotted configuration key.
    pub params: BTreeMap<String, Value>,
}

impl RunInfo {
    /// Adds a section of the configuration as parameters: `{"lora": {"r": 8}}` under `training` becomes
    /// `training.lora.r: 8`. Secrets and nulls are left out.
    pub fn add_params(&mut self, prefix: &str, section: &Value) {
        match section {
            Value::Object(fields) => {
                for (name, value) in fields {
                    let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                    self.add_params(&key, value);
                }
            }
            Value::Null => {}
            Value::String(text) if text == REDACTED => {}
            value => {
                self.params.insert(prefix.to_owned(), value.clone());
            }
        }
    }
}

/// A later start of the same run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Resumption {
    /// Time of the start.
    pub at: Timestamp,
    /// Number of steps done before.
    pub step: u64,
}

/// The contents of `run.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// 32 hex digits; the same in every tracker, and after resuming.
    pub run_id: String,
    /// The run's name.
    pub name: String,
    /// Its status.
    pub status: RunStatus,
    /// Exit status of the program: 0 done, 1 failed, 130 interrupted; null while it runs.
    pub exit_status: Option<i32>,
    /// First start.
    pub started_at: Timestamp,
    /// Last end; null while it runs.
    pub ended_at: Option<Timestamp>,
    /// Later starts.
    #[serde(default)]
    pub resumed: Vec<Resumption>,
    /// Its inputs.
    #[serde(flatten)]
    pub info: RunInfo,
    /// Where else it is recorded, by tracker.
    #[serde(default)]
    pub trackers: BTreeMap<String, Value>,
}

impl RunRecord {
    /// Reads `run.json` of an output directory; `None` when there is none.
    ///
    /// # Errors
    /// When it cannot be read or is malformed.
    pub fn read(output_dir: &Path) -> Result<Option<Self>, TrackError> {
        let path = output_dir.join(RUN_FILE);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(TrackError::read(&path, error)),
        };
        serde_json::from_slice(&bytes).map(Some).map_err(|error| TrackError::malformed(&path, error))
    }
}
