//! `metrics.jsonl`: a row per line, appended line by line.
//!
//! The file is opened for each line, so that a directory that is deleted during a run is noticed. A line that
//! cannot be written completely is removed again.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::error::TrackError;
use crate::row::Row;
use crate::whole_file;

/// The file of one run.
#[derive(Debug)]
pub(crate) struct MetricsFile {
    path: PathBuf,
}

impl MetricsFile {
    /// Starts an empty file.
    pub(crate) fn create(path: PathBuf) -> Result<Self, TrackError> {
        whole_file::write(&path, whole_file::directory_of(&path), b"")?;
        Ok(Self { path })
    }

    /// Resumes a file: removes rows after `step` and a partial last line, so that the file reads like that of an
    /// uninterrupted run. Returns the remaining rows.
    pub(crate) fn resume(path: PathBuf, step: u64) -> Result<(Self, Vec<Row>), TrackError> {
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(TrackError::read(&path, error)),
        };
        let (mut kept, mut rows) = (Vec::with_capacity(bytes.len()), Vec::new());
        for (number, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
            match parse(line) {
                Ok(row) if row.step <= step => {
                    kept.extend_from_slice(line.trim_ascii_end());
                    kept.push(b'\n');
                    rows.push(row);
                }
                Ok(_) => {}
                Err(_) if line.trim_ascii().is_empty() || !line.ends_with(b"\n") => {}
                Err(problem) => tracing::warn!(
                    "{}:{}: taken out, because it is not a row of metrics: {problem}",
                    path.display(),
                    number + 1
                ),
            }
        }
        if kept != bytes || !path.exists() {
            whole_file::write(&path, whole_file::directory_of(&path), &kept)?;
        }
        Ok((Self { path }, rows))
    }

    /// Adds a row.
    pub(crate) fn append(&self, row: &Row) -> Result<(), TrackError> {
        append_line(&self.path, row.to_line().as_bytes(), Missing::IsAnError)
            .map_err(|source| TrackError::write(&self.path, source))
    }

    /// Syncs all rows to disk.
    pub(crate) fn sync(&self) -> Result<(), TrackError> {
        let sync = || File::open(&self.path)?.sync_all();
        sync().map_err(|source| TrackError::write(&self.path, source))
    }
}

/// Whether [`append_line`] creates the file.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Missing {
    IsMade,
    IsAnError,
}

/// Appends a line completely, or not at all.
pub(crate) fn append_line(path: &Path, line: &[u8], missing: Missing) -> io::Result<()> {
    let mut file = OpenOptions::new().append(true).create(missing == Missing::IsMade).open(path)?;
    let before = file.metadata()?.len();
    file.write_all(line).inspect_err(|_| {
        // A partial line would corrupt the next one. If even this fails, resuming removes it.
        if let Err(error) = file.set_len(before) {
            tracing::debug!("cannot take back half a line of {}: {error}", path.display());
        }
    })
}

/// The rows of a `metrics.jsonl`, without a partial last line.
///
/// # Errors
/// When the file cannot be read, or a line is not a row (with its number).
pub fn read_rows(path: &Path) -> Result<Vec<Row>, TrackError> {
    let bytes = std::fs::read(path).map_err(|source| TrackError::read(path, source))?;
    let mut rows = Vec::new();
    for (number, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
        match parse(line) {
            Ok(row) => rows.push(row),
            Err(_) if line.trim_ascii().is_empty() || !line.ends_with(b"\n") => {}
            Err(problem) => {
                return Err(TrackError::Malformed { path: path.to_owned(), line: Some(number + 1), problem });
            }
        }
    }
    Ok(rows)
}

fn parse(line: &[u8]) -> Result<Row, String> {
    let object: Map<String, Value> = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    Row::from_json(&object).map_err(|error| error.to_string())
}
