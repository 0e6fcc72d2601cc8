//! [`parlor_files::atomic_file`], with this crate's errors.

use std::path::Path;

pub(crate) use parlor_files::atomic_file::directory_of;

use crate::error::TrackError;

/// Replaces `path` with `contents`, through `temporary_dir`.
pub(crate) fn write(path: &Path, temporary_dir: &Path, contents: &[u8]) -> Result<(), TrackError> {
    parlor_files::atomic_file::replace(path, temporary_dir, contents)
        .map_err(|source| TrackError::write(path, source))
}
