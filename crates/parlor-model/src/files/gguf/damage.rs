//! Errors about damaged GGUF files, which name the place in the file.

use std::path::Path;

use crate::error::{LoadErrorKind, ModelLoadError};
use crate::files::weight_files::DOWNLOAD_AGAIN;

/// A place in a file, for messages.
pub(super) fn at(path: &Path, what: &str) -> String {
    format!("{}: {what}", path.display())
}

pub(super) fn damaged(path: &Path, place: &str, what: impl Into<String>) -> ModelLoadError {
    ModelLoadError::new(LoadErrorKind::Corrupt, at(path, place), what, DOWNLOAD_AGAIN)
}
