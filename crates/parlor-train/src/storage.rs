//! Atomic directories and files: written under a temporary name, fsynced, renamed.
//!
//! File contents are synced first, then the directory's entries, then comes the rename, then the parent's
//! entries, so that a kill or a power cut leaves the old state or the new one. Temporary names start with
//! `.tmp-`.

use std::error::Error;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

pub use parlor_track::atomic_file::TEMPORARY_PREFIX;
use parlor_track::atomic_file::{self, sync_directory};
use rustix::fs::{CWD, RenameFlags, renameat_with};

/// Prefixes of temporary names: Parlor's own, and that of `parlor_model::save_directory`.
pub const TEMPORARY_PREFIXES: [&str; 2] = [TEMPORARY_PREFIX, ".saving-"];

/// The error of a function that writes contents.
pub type FillError = Box<dyn Error + Send + Sync>;

/// Why something could not be written.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The disk is full, or a quota or size limit is reached.
    #[error(
        "no space left to write {path} ({available} free on its disk): {source}; earlier checkpoints are intact; \
         free some space or choose another `training.output_dir`, then `parlor train --resume`",
        path = path.display(),
        available = human_bytes(*available)
    )]
    Full {
        /// What was being written.
        path: PathBuf,
        /// Bytes left on the disk.
        available: u64,
        /// The error of the writer.
        source: FillError,
    },
    /// Any other failure.
    #[error("cannot write {path}: {source}", path = path.display())]
    Write {
        /// What was being written.
        path: PathBuf,
        /// The error of the writer.
        source: FillError,
    },
}

impl StorageError {
    /// Classifies an error of writing `path`: out of space, or another failure.
    pub fn new(path: &Path, source: impl Into<FillError>) -> Self {
        let source = source.into();
        let path = path.to_owned();
        if is_out_of_space(source.as_ref()) {
            let available = available_bytes(&path).unwrap_or(0);
            Self::Full { path, available, source }
        } else {
            Self::Write { path, source }
        }
    }
}

fn is_out_of_space(error: &(dyn Error + Send + Sync + 'static)) -> bool {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            let full =
                [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded, io::ErrorKind::FileTooLarge];
            return full.contains(&io.kind());
        }
        next = error.source();
    }
    false
}

/// Bytes that a user may still write on the disk of `path`, or of its nearest existing parent.
pub fn available_bytes(path: &Path) -> Option<u64> {
    let existing = path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("."));
    let stat = rustix::fs::statvfs(existing).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// `1.5 GiB`.
pub fn human_bytes(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut units = ["bytes", "KiB", "MiB", "GiB", "TiB"].iter().peekable();
    while let Some(unit) = units.next() {
        if value < 1024.0 || units.peek().is_none() {
            let digits = usize::from(*unit != "bytes");
            return format!("{value:.digits$} {unit}");
        }
        value /= 1024.0;
    }
    format!("{bytes} bytes")
}

/// Creates `parent/name` with the contents that `fill` writes into the directory that it is given. A
/// directory of that name is replaced atomically.
///
/// # Errors
/// What `fill` or the system says; then nothing but `parent` itself has changed.
pub fn write_directory(
    parent: &Path,
    name: &str,
    fill: &mut dyn FnMut(&Path) -> Result<(), FillError>,
) -> Result<PathBuf, StorageError> {
    let target = parent.join(name);
    let temporary = fill_temporary(parent, name, fill)?;
    let renamed = if target.exists() {
        // Exchanging the names leaves no moment without a directory of that name.
        renameat_with(CWD, &temporary, CWD, &target, RenameFlags::EXCHANGE)
            .map_err(io::Error::from)
            .or_else(|_| fs::remove_dir_all(&target).and_then(|()| fs::rename(&temporary, &target)))
    } else {
        fs::rename(&temporary, &target)
    };
    let result = renamed.and_then(|()| sync_directory(parent));
    remove(&temporary);
    result.map_err(|error| StorageError::new(&target, error))?;
    Ok(target)
}

fn fill_temporary(
    parent: &Path,
    name: &str,
    fill: &mut dyn FnMut(&Path) -> Result<(), FillError>,
) -> Result<PathBuf, StorageError> {
    let temporary = parent.join(format!("{TEMPORARY_PREFIX}{name}-{}", std::process::id()));
    remove(&temporary);
    let mut write = || -> Result<(), FillError> {
        fs::create_dir_all(&temporary)?;
        fill(&temporary)?;
        sync_tree(&temporary)?;
        Ok(())
    };
    let result = write();
    result.map_err(|error| {
        remove(&temporary);
        StorageError::new(&parent.join(name), error)
    })?;
    Ok(temporary)
}

/// Copies the files of directory `from` into the directory `to`, each atomically.
///
/// # Errors
/// What the system says.
pub fn copy_files(from: &Path, to: &Path) -> Result<(), StorageError> {
    let copy = |name: &Path, target: &Path| -> io::Result<()> {
        let temporary = to.join(format!("{TEMPORARY_PREFIX}copy-{}", std::process::id()));
        fs::copy(name, &temporary)?;
        File::open(&temporary)?.sync_all()?;
        fs::rename(&temporary, target)
    };
    let failed = |path: &Path, error: io::Error| StorageError::new(path, error);
    for entry in fs::read_dir(from).map_err(|error| failed(from, error))? {
        let entry = entry.map_err(|error| failed(from, error))?;
        let target = to.join(entry.file_name());
        if entry.file_type().is_ok_and(|kind| kind.is_file()) {
            copy(&entry.path(), &target).map_err(|error| failed(&target, error))?;
        }
    }
    sync_directory(to).map_err(|error| failed(to, error))
}

/// Writes a file atomically: a temporary file, fsync, rename, fsync of the directory.
///
/// # Errors
/// What the system says.
pub fn write_file(path: &Path, contents: &[u8]) -> Result<(), StorageError> {
    atomic_file::replace(path, atomic_file::directory_of(path), contents)
        .map_err(|error| StorageError::new(path, error))
}

/// Removes a file or a directory. A failure is logged.
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
