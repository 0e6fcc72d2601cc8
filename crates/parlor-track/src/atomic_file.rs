//! Files that appear whole or not at all: written under a temporary name, fsynced, renamed, the directory fsynced.
//! The temporary name starts with `.tmp-`, as everywhere in Parlor, so that what a kill leaves is recognised.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use crate::error::TrackError;

/// Replaces `path` with `contents`. `temporary_dir` must be on the same disk; it is not `path`'s own directory
/// where readers take every file they find for data.
pub(crate) fn write(path: &Path, temporary_dir: &Path, contents: &[u8]) -> Result<(), TrackError> {
    replace(path, temporary_dir, contents).map_err(|source| TrackError::write(path, source))
}

fn replace(path: &Path, temporary_dir: &Path, contents: &[u8]) -> io::Result<()> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".tmp-");
    #[cfg(unix)]
    {
        // Readable by others as the umask allows, like any file; the crate's own choice is the owner alone.
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let mut file = builder.tempfile_in(temporary_dir)?;
    file.write_all(contents)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    match path.parent() {
        Some(parent) => sync_directory(parent),
        None => Ok(()),
    }
}

/// Makes the names in a directory durable. Not every system can open a directory: then there is nothing to do.
pub(crate) fn sync_directory(directory: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(directory)?.sync_all() } else { Ok(()) }
}
