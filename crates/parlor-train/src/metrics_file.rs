//! `metrics.jsonl`: one row per line, appended; cut back to the checkpoint when a run goes on from one.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::parlor_state::ParlorState;
use crate::recorder::Recorder;
use crate::storage::{FillError, StorageError, write_file};

/// The open file.
#[derive(Debug)]
pub struct MetricsFile {
    file: File,
    path: PathBuf,
}

impl MetricsFile {
    /// Opens `path` for a run that starts (`None`: the file becomes empty) or goes on from a checkpoint: rows that
    /// are not part of it are removed, and so is a last line that was cut off.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(path: &Path, resume: Option<&ParlorState>) -> Result<Self, StorageError> {
        let kept = match resume {
            Some(state) => kept_lines(&fs::read(path).unwrap_or_default(), state),
            None => Vec::new(),
        };
        write_file(path, &kept)?;
        let file = File::options().append(true).open(path).map_err(|error| StorageError::new(path, error))?;
        Ok(Self { file, path: path.to_owned() })
    }

    /// All rows of the file.
    pub fn rows(&self) -> Vec<Map<String, Value>> {
        let text = fs::read(&self.path).unwrap_or_default();
        text.split(|&byte| byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
    }
}

fn kept_lines(text: &[u8], state: &ParlorState) -> Vec<u8> {
    let mut kept = Vec::new();
    for line in text.split_inclusive(|&byte| byte == b'\n') {
        let Ok(row) = serde_json::from_slice::<Map<String, Value>>(line) else { continue };
        let step = row.get("step").and_then(Value::as_u64).unwrap_or(u64::MAX);
        // The evaluation after the checkpoint's own step may have been made since, and is made again.
        let again = step == state.step && state.evaluation_pending && row.contains_key("eval_loss");
        if line.ends_with(b"\n") && step <= state.step && !again {
            kept.extend_from_slice(line);
        }
    }
    kept
}

impl Recorder for MetricsFile {
    fn record(&mut self, row: &Map<String, Value>) -> Result<(), FillError> {
        let mut line = serde_json::to_vec(row)?;
        line.push(b'\n');
        // One write per row: a reader never sees half of one, but for a kill.
        let written: io::Result<()> = self.file.write_all(&line);
        written.map_err(|error| Box::new(StorageError::new(&self.path, error)) as FillError)
    }

    fn sync(&mut self) -> Result<(), FillError> {
        self.file.sync_all().map_err(|error| Box::new(StorageError::new(&self.path, error)) as FillError)
    }
}
