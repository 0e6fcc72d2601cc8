//! Directories that appear whole or not at all, and groups of files that are put into an existing one together.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::atomic_file::{TEMPORARY_PREFIX, directory_of, sync_directory};
use crate::error::{FillError, WriteError};

/// Makes `parent/name` with the contents that `fill` writes into the directory it is given, and replaces a directory of
/// that name in one step.
///
/// # Errors
/// What `fill` or the system reports; nothing but `parent` itself has changed then.
pub fn replace(
    parent: &Path,
    name: &str,
    fill: &mut dyn FnMut(&Path) -> Result<(), FillError>,
) -> Result<PathBuf, WriteError> {
    let target = parent.join(name);
    let temporary = parent.join(format!("{TEMPORARY_PREFIX}{name}-{}", std::process::id()));
    remove(&temporary);
    let mut write = || -> Result<(), FillError> {
        fs::create_dir_all(&temporary)?;
        fill(&temporary)?;
        Ok(sync_tree(&temporary)?)
    };
    let result = write().and_then(|()| Ok(rename_over(&temporary, &target)?));
    let result = result.and_then(|()| Ok(sync_directory(parent)?));
    remove(&temporary);
    result.map_err(|error| WriteError::new(&target, error))?;
    Ok(target)
}

/// Renames a directory; one that has the name already is exchanged with it, so that there is no moment without one.
fn rename_over(temporary: &Path, target: &Path) -> io::Result<()> {
    if !target.exists() {
        return fs::rename(temporary, target);
    }
    renameat_with(CWD, temporary, CWD, target, RenameFlags::EXCHANGE)
        .map_err(io::Error::from)
        // Not every file system can exchange names.
        .or_else(|_| fs::remove_dir_all(target).and_then(|()| fs::rename(temporary, target)))
}

/// The files that [`update`] puts into a directory.
pub struct Update<'a> {
    /// The directory; it is made if it does not exist.
    pub directory: &'a Path,
    /// The file that makes the others count; it is renamed last.
    pub last: &'a str,
    /// Whether a file that was there and is not written again is removed after that.
    pub is_stale: &'a dyn Fn(&str) -> bool,
}

/// Puts the files that `fill` writes into a directory, beside those that it has. A failure leaves the directory as it was, or
/// (between renames) each file whole.
///
/// # Errors
/// What `fill` or the system reports.
pub fn update<E: From<WriteError>>(
    update: &Update<'_>,
    fill: &dyn Fn(&Path) -> Result<(), E>,
) -> Result<(), E> {
    let directory = update.directory;
    let parent = directory_of(directory);
    let exists = directory.is_dir();
    if !exists {
        at(parent, fs::create_dir_all(parent))?;
    }
    let place = if exists { directory } else { parent };
    let staging = at(place, staging_directory(place))?;
    fill(staging.path())?;
    at(staging.path(), sync_directory(staging.path()))?;
    if exists {
        move_into(staging.path(), update)?;
        at(directory, staging.close())?;
    } else {
        at(directory, fs::rename(staging.path(), directory))?;
        // The directory has its own name now; there is nothing left to remove.
        let _ = staging.keep();
    }
    Ok(at(place, sync_directory(place))?)
}

fn at<T>(path: &Path, result: io::Result<T>) -> Result<T, WriteError> {
    result.map_err(|error| WriteError::new(path, error))
}

fn staging_directory(place: &Path) -> io::Result<tempfile::TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(TEMPORARY_PREFIX);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // As any other new directory, less the umask.
        builder.permissions(fs::Permissions::from_mode(0o777));
    }
    builder.tempdir_in(place)
}

/// Renames every staged file into the directory, then removes what is stale.
fn move_into(staging: &Path, update: &Update<'_>) -> Result<(), WriteError> {
    let names = |dir: &Path| -> io::Result<Vec<String>> {
        fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    };
    let directory = update.directory;
    let mut new = at(staging, names(staging))?;
    new.sort_by_key(|name| (name == update.last, name.clone()));
    for name in &new {
        let target = directory.join(name);
        at(&target, fs::rename(staging.join(name), &target))?;
    }
    at(directory, sync_directory(directory))?;
    for name in at(directory, names(directory))? {
        if (update.is_stale)(&name) && !new.contains(&name) {
            let path = directory.join(name);
            at(&path, fs::remove_file(&path))?;
        }
    }
    Ok(())
}

/// Copies the files of directory `from` into the directory `to`, each whole or not at all.
///
/// # Errors
/// What the system reports.
pub fn copy_files(from: &Path, to: &Path) -> Result<(), WriteError> {
    let copy = |name: &Path, target: &Path| -> io::Result<()> {
        let temporary = to.join(format!("{TEMPORARY_PREFIX}copy-{}", std::process::id()));
        fs::copy(name, &temporary)?;
        File::open(&temporary)?.sync_all()?;
        fs::rename(&temporary, target)
    };
    for entry in at(from, fs::read_dir(from))? {
        let entry = at(from, entry)?;
        let target = to.join(entry.file_name());
        if entry.file_type().is_ok_and(|kind| kind.is_file()) {
            at(&target, copy(&entry.path(), &target))?;
        }
    }
    at(to, sync_directory(to))
}

/// Removes a file or a directory with all that is in it. What cannot be removed is left, with a warning.
pub fn remove(path: &Path) {
    let result = match fs::symlink_metadata(path) {
        Err(_) => return,
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
    };
    if let Err(error) = result {
        tracing::warn!("cannot remove {}: {error}", path.display());
    }
}

fn sync_tree(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            sync_tree(&path)?;
        } else {
            File::open(&path)?.sync_all()?;
        }
    }
    sync_directory(directory)
}
