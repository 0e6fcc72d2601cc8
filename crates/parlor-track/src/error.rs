//! What can go wrong while a run is recorded.

use std::io;
use std::path::{Path, PathBuf};

use crate::config::Unsupported;

/// Why something could not be recorded.
#[derive(Debug, thiserror::Error)]
pub enum TrackError {
    /// The configuration enables a tracker that is not supported.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Unsupported(Vec<Unsupported>),
    /// A file or directory cannot be written.
    #[error("cannot write {path}: {source}{hint}", path = path.display(), hint = hint(source))]
    Write {
        /// What was being written.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A file or directory cannot be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Read {
        /// What was being read.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A file is malformed.
    #[error("{path}{at}: {problem}", path = path.display(), at = line.map(|l| format!(":{l}")).unwrap_or_default())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line, from 1, if the problem is on one line.
        line: Option<usize>,
        /// What was expected and what was found.
        problem: String,
    },
    /// A row of metrics that cannot be recorded.
    #[error("a row of metrics cannot be recorded: {0}")]
    Row(String),
    /// A setting or an argument that a tracker cannot use.
    #[error("{key}: {problem}")]
    Setting {
        /// The configuration key, or the argument's name.
        key: &'static str,
        /// What is wrong, what was expected, what to do.
        problem: String,
    },
    /// The plot cannot be drawn.
    #[error("cannot draw the loss plot: {0}")]
    Plot(String),
}

impl TrackError {
    pub(crate) fn write(path: &Path, source: io::Error) -> Self {
        Self::Write { path: path.to_owned(), source }
    }

    pub(crate) fn read(path: &Path, source: io::Error) -> Self {
        Self::Read { path: path.to_owned(), source }
    }

    pub(crate) fn malformed(path: &Path, problem: impl ToString) -> Self {
        Self::Malformed { path: path.to_owned(), line: None, problem: problem.to_string() }
    }
}

fn hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; free some space, or name a directory on another disk"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "; name a directory that you may write to"
        }
        io::ErrorKind::NotFound => {
            "; its directory is gone: was it removed or renamed while the run went on?"
        }
        _ => "",
    }
}
