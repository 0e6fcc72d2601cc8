//! Files that appear whole or not at all: written under a temporary name, fsynced, renamed, the directory fsynced.
//!
//! `tempfile` names the file and renames it.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use crate::error::WriteError;

/// Every temporary name in Parlor begins with this, so that the leftovers of a killed process are recognised.
pub const TEMPORARY_PREFIX: &str = ".tmp-";

/// Replaces `path` with `contents`, through a temporary file beside it. A symbolic link stays one, and permissions stay.
///
/// ```
/// let directory = tempfile::tempdir()?;
/// let path = directory.path().join("config.yaml");
/// parlor_files::atomic_file::write(&path, b"model: {}\n")?;
/// assert_eq!(std::fs::read(&path)?, b"model: {}\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// What the system reports; `path` is then unchanged.
pub fn write(path: &Path, contents: &[u8]) -> Result<(), WriteError> {
    replace(path, directory_of(path), contents).map_err(|error| WriteError::new(path, error))
}

/// As [`write()`], through a temporary file in `temporary_dir`, which must be on the same file system: for directories whose
/// readers take every file they find for data.
///
/// # Errors
/// What the system reports; `path` is then unchanged.
pub fn replace(path: &Path, temporary_dir: &Path, contents: &[u8]) -> io::Result<()> {
    let path = &path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let mut builder = tempfile::Builder::new();
    builder.prefix(TEMPORARY_PREFIX);
    #[cfg(unix)]
    {
        // Readable by others as the umask allows, like any file; the crate's own choice is the owner alone.
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let mut file = builder.tempfile_in(temporary_dir)?;
    file.write_all(contents)?;
    file.as_file().sync_all()?;
    if let Ok(metadata) = std::fs::metadata(path) {
        file.as_file().set_permissions(metadata.permissions())?;
    }
    file.persist(path).map_err(|error| error.error)?;
    sync_directory(directory_of(path))
}

/// The directory that holds `path`; `.` for a bare name.
pub fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes the entries of a directory durable. Does nothing where the system cannot open directories.
///
/// # Errors
/// What the system reports.
pub fn sync_directory(directory: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(directory)?.sync_all() } else { Ok(()) }
}
