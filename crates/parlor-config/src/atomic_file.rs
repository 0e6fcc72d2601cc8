//! Files that appear whole or not at all: written under a temporary name, fsynced, renamed, the directory fsynced.
//!
//! It stands in this crate because every crate that writes files may import this one; `tempfile` does the renaming.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

/// How temporary names begin everywhere in Parlor, so that what a kill leaves is recognised.
pub const TEMPORARY_PREFIX: &str = ".tmp-";

/// Replaces `path` with `contents`; a link stays one, and permissions stay as they were. `temporary_dir` must be on
/// the same disk; it is not `path`'s own directory where readers take every file they find for data.
///
/// # Errors
/// What the system says; then `path` is as it was.
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

/// The directory that `path` is in.
pub fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes the names in a directory durable. Not every system can open a directory: then there is nothing to do.
///
/// # Errors
/// What the system says.
pub fn sync_directory(directory: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(directory)?.sync_all() } else { Ok(()) }
}
