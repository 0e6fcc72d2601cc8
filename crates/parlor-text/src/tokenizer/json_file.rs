//! JSON files of a model directory: bounded in size, and never a Git LFS pointer.

use std::path::Path;

use serde_json::{Map, Value};

use super::error::TokenizerError;
use crate::lfs::{LFS_POINTER, is_lfs_pointer};

/// Largest file in bytes. Vocabularies are large, but a corrupt model directory must not fill the memory.
const MAX_FILE: u64 = 512 << 20;

/// The bytes of a file of at most [`MAX_FILE`] bytes.
pub(crate) fn read_limited(path: &Path) -> Result<Vec<u8>, TokenizerError> {
    let io = |source| TokenizerError::Io { path: path.to_owned(), source };
    let size = std::fs::metadata(path).map_err(io)?.len();
    if size > MAX_FILE {
        let why = format!("it has {size} bytes; at most {MAX_FILE} are read");
        return Err(TokenizerError::Corrupt { path: path.to_owned(), why });
    }
    let bytes = std::fs::read(path).map_err(io)?;
    match is_lfs_pointer(&bytes) {
        true => Err(TokenizerError::Corrupt { path: path.to_owned(), why: LFS_POINTER.to_owned() }),
        false => Ok(bytes),
    }
}

/// A JSON file that must hold an object.
pub(crate) fn json_object(path: &Path) -> Result<Map<String, Value>, TokenizerError> {
    let corrupt = |why| TokenizerError::Corrupt { path: path.to_owned(), why };
    match serde_json::from_slice(&read_limited(path)?) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(corrupt("an object was expected".to_owned())),
        Err(error) => Err(corrupt(error.to_string())),
    }
}
