//! Refuses the pointers that Git LFS leaves in place of files that were not fetched.

use std::path::Path;

use parlor_text::{LFS_POINTER, is_lfs_pointer, is_lfs_pointer_file};

use crate::error::{LoadErrorKind, ModelLoadError};

fn error(path: &Path) -> ModelLoadError {
    let (what, help) = LFS_POINTER.split_once("; ").unwrap_or((LFS_POINTER, ""));
    ModelLoadError::new(LoadErrorKind::NotFound, path.display(), what, help)
}

/// An error when `bytes`, the contents of `path`, are a pointer.
///
/// # Errors
/// `NotFound`: the file itself is not here.
pub(crate) fn refuse(path: &Path, bytes: &[u8]) -> Result<(), ModelLoadError> {
    if is_lfs_pointer(bytes) { Err(error(path)) } else { Ok(()) }
}

/// [`refuse`] for a file that another crate reads.
///
/// # Errors
/// Those of [`refuse`].
pub(crate) fn refuse_file(path: &Path) -> Result<(), ModelLoadError> {
    if is_lfs_pointer_file(path) { Err(error(path)) } else { Ok(()) }
}
