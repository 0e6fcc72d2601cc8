//! Git LFS pointers: what a clone holds in place of a large file that was not fetched.
//!
//! Source: `docs/spec.md` of git-lfs. A pointer is a text of a few lines, the first of which names the specification.

use std::io::Read;
use std::path::Path;

use crate::error::{LoadErrorKind, ModelLoadError};

const FIRST_LINE: &[u8] = b"version https://git-lfs.github.com/spec/v1";
/// What the specification says a pointer is smaller than.
const LARGEST: u64 = 1024;

/// An error when the contents of `path` are a pointer.
///
/// # Errors
/// `NotFound`: the file itself is not here.
pub(crate) fn refuse(path: &Path, bytes: &[u8]) -> Result<(), ModelLoadError> {
    if !bytes.starts_with(FIRST_LINE) {
        return Ok(());
    }
    Err(ModelLoadError::new(
        LoadErrorKind::NotFound,
        path.display(),
        "this is a Git LFS pointer, not the file",
        "run `git lfs pull` in the directory, or download the file itself",
    ))
}

/// The same of a file that another crate will read. Files that are not there, or too large to be a pointer, pass.
///
/// # Errors
/// Those of [`refuse`].
pub(crate) fn refuse_file(path: &Path) -> Result<(), ModelLoadError> {
    let Ok(mut file) = std::fs::File::open(path) else { return Ok(()) };
    if file.metadata().is_ok_and(|metadata| !metadata.is_file() || metadata.len() >= LARGEST) {
        return Ok(());
    }
    let mut first = Vec::with_capacity(FIRST_LINE.len());
    match (&mut file).take(FIRST_LINE.len() as u64).read_to_end(&mut first) {
        Ok(_) => refuse(path, &first),
        Err(_) => Ok(()),
    }
}
