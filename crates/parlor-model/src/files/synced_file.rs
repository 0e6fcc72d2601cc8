//! Files written in place and fsynced, within a directory that appears as a whole
//! ([`parlor_files::atomic_dir`]).

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use parlor_files::WriteError;
use serde_json::Value;

use crate::error::SaveError;

/// The error with its path.
pub(crate) fn at<T>(path: &Path, result: io::Result<T>) -> Result<T, SaveError> {
    Ok(result.map_err(|error| WriteError::new(path, error))?)
}

pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> Result<(), SaveError> {
    let mut file = at(path, File::create(path))?;
    at(path, file.write_all(bytes))?;
    at(path, file.sync_all())
}

pub(crate) fn write_json(path: &Path, value: &Value) -> Result<(), SaveError> {
    let mut text = at(path, serde_json::to_vec_pretty(value).map_err(io::Error::other))?;
    text.push(b'\n');
    write_file(path, &text)
}
