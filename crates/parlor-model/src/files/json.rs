//! Reading a JSON object from a file of a model.

use std::path::Path;

use serde_json::{Map, Value};

use super::lfs;
use crate::error::ModelLoadError;

/// The JSON object in a file.
///
/// # Errors
/// When the file cannot be read, is empty, or holds something else.
pub(crate) fn read_object(path: &Path) -> Result<Map<String, Value>, ModelLoadError> {
    let bytes = std::fs::read(path).map_err(|error| ModelLoadError::reading(path, &error))?;
    // A byte-order mark is harmless; some editors add one.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    lfs::refuse(path, bytes)?;
    let restore = "restore the file from the model's original";
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(ModelLoadError::corrupt(path, "this should be a JSON object, and is not", restore)),
        Err(_) if bytes.is_empty() => Err(ModelLoadError::corrupt(path, "the file is empty", restore)),
        Err(error) => Err(ModelLoadError::corrupt(path, format!("this is not valid JSON: {error}"), restore)),
    }
}
