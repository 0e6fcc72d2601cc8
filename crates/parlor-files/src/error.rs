//! Why something could not be written.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

use crate::disk_space::{available_bytes, human_bytes};

/// What a writer of a directory's contents may return.
pub type FillError = Box<dyn Error + Send + Sync>;

/// Why something could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The disk is full, or a quota or size limit is reached.
    #[error(
        "no space left to write {path} ({available} free on its disk): {source}",
        path = path.display(),
        available = human_bytes(*available)
    )]
    Full {
        /// What was being written.
        path: PathBuf,
        /// Bytes that the disk still has.
        available: u64,
        /// What the writer reports.
        source: FillError,
    },
    /// Anything else.
    #[error("cannot write {path}: {source}", path = path.display())]
    Other {
        /// What was being written.
        path: PathBuf,
        /// What the writer reports.
        source: FillError,
    },
}

impl WriteError {
    /// Tells an exhausted disk from other errors. A `source` that is a `WriteError` itself stays as it is.
    pub fn new(path: &Path, source: impl Into<FillError>) -> Self {
        let source = match source.into().downcast::<Self>() {
            Ok(error) => return *error,
            Err(source) => source,
        };
        let path = path.to_owned();
        if is_out_of_space(source.as_ref()) {
            let available = available_bytes(&path).unwrap_or(0);
            Self::Full { path, available, source }
        } else {
            Self::Other { path, source }
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
