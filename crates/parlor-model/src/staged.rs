//! Several files that belong together, put in place whole: written into a temporary directory beside the
//! target, each fsynced, then renamed. A failure leaves the target as it was, or (between renames) each file
//! whole.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use serde_json::Value;

use crate::error::SaveError;

pub(crate) fn at<T>(path: &Path, result: io::Result<T>) -> Result<T, SaveError> {
    result.map_err(|source| SaveError::Io { path: path.to_owned(), source })
}

pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> Result<(), SaveError> {
    let mut file = at(path, File::create(path))?;
    at(path, file.write_all(bytes))?;
    at(path, file.sync_all())
}

pub(crate) fn write_json(path: &Path, value: &Value) -> Result<(), SaveError> {
    let mut text = serde_json::to_vec_pretty(value)
        .map_err(|error| SaveError::Io { path: path.to_owned(), source: io::Error::other(error) })?;
    text.push(b'\n');
    write_file(path, &text)
}

/// Makes a rename or a new name in `dir` durable.
fn sync_directory(dir: &Path) -> Result<(), SaveError> {
    at(dir, parlor_files::atomic_file::sync_directory(dir))
}

/// Has `fill` write files, and puts them into `dir`; `last` is the one that makes them count, and files that
/// are `stale` and were not written again are removed after it.
pub(crate) fn write_staged(
    dir: &Path,
    last: &str,
    stale: &dyn Fn(&str) -> bool,
    fill: &dyn Fn(&Path) -> Result<(), SaveError>,
) -> Result<(), SaveError> {
    let parent = match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let exists = dir.is_dir();
    if !exists {
        at(parent, fs::create_dir_all(parent))?;
    }
    let place = if exists { dir } else { parent };
    let staging = at(place, staging_directory(place))?;
    fill(staging.path())?;
    sync_directory(staging.path())?;
    if exists {
        move_into(staging.path(), dir, last, stale)?;
        at(dir, staging.close())?;
    } else {
        at(dir, fs::rename(staging.path(), dir))?;
        // The directory has its own name now; there is nothing left to remove.
        let _ = staging.keep();
    }
    sync_directory(place)
}

fn staging_directory(place: &Path) -> io::Result<tempfile::TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".saving-");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // As any other new directory, less the umask.
        builder.permissions(fs::Permissions::from_mode(0o777));
    }
    builder.tempdir_in(place)
}

/// Renames every file of `staging` into `dir`, `last` last, then removes what is stale.
fn move_into(staging: &Path, dir: &Path, last: &str, stale: &dyn Fn(&str) -> bool) -> Result<(), SaveError> {
    let names = |dir: &Path| -> io::Result<Vec<String>> {
        fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    };
    let mut new = at(staging, names(staging))?;
    new.sort_by_key(|name| (name == last, name.clone()));
    for name in &new {
        let target = dir.join(name);
        at(&target, fs::rename(staging.join(name), &target))?;
    }
    sync_directory(dir)?;
    for name in at(dir, names(dir))? {
        if stale(&name) && !new.contains(&name) {
            let path = dir.join(name);
            at(&path, fs::remove_file(&path))?;
        }
    }
    Ok(())
}
