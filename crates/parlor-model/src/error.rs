//! Why a model could not be loaded or saved: a kind that programs can act on, and text that a person can.

use std::fmt;
use std::path::Path;

use parlor_files::WriteError;

/// The class of a load error, which decides what to try next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LoadErrorKind {
    /// The weights do not fit in memory.
    OutOfMemory,
    /// The device asked for does not exist, or this build cannot use it.
    Device,
    /// The model is remote, and this build does not download.
    Network,
    /// A file is damaged, incomplete or contradicts another one.
    Corrupt,
    /// The files are sound, but Parlor cannot run what they describe.
    Incompatible,
    /// A file or directory does not exist or cannot be read.
    NotFound,
}

impl fmt::Display for LoadErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LoadErrorKind::OutOfMemory => "out of memory",
            LoadErrorKind::Device => "device",
            LoadErrorKind::Network => "network",
            LoadErrorKind::Corrupt => "corrupt",
            LoadErrorKind::Incompatible => "incompatible",
            LoadErrorKind::NotFound => "not found",
        })
    }
}

/// Why a model could not be loaded. `Display` is the whole message; the parts are for programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelLoadError {
    /// The class.
    pub kind: LoadErrorKind,
    /// What happened: what was expected and what was found.
    pub what: String,
    /// Where: a file, and a tensor, key or line in it.
    pub place: String,
    /// What to do about it.
    pub help: String,
}

impl fmt::Display for ModelLoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n  in {}\n  help: {}", self.what, self.place, self.help)
    }
}

impl std::error::Error for ModelLoadError {}

impl ModelLoadError {
    pub(crate) fn new(
        kind: LoadErrorKind,
        place: impl fmt::Display,
        what: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        Self { kind, what: what.into(), place: place.to_string(), help: help.into() }
    }

    pub(crate) fn corrupt(place: &Path, what: impl Into<String>, help: impl Into<String>) -> Self {
        Self::new(LoadErrorKind::Corrupt, place.display(), what, help)
    }

    pub(crate) fn incompatible(place: &Path, what: impl Into<String>, help: impl Into<String>) -> Self {
        Self::new(LoadErrorKind::Incompatible, place.display(), what, help)
    }

    /// An error of the operating system while reading `place`.
    pub(crate) fn reading(place: &Path, error: &std::io::Error) -> Self {
        let (kind, help) = match error.kind() {
            std::io::ErrorKind::NotFound => {
                (LoadErrorKind::NotFound, "the model directory is incomplete; copy or download it again")
            }
            std::io::ErrorKind::PermissionDenied => {
                (LoadErrorKind::NotFound, "give this user the right to read the file")
            }
            std::io::ErrorKind::OutOfMemory => {
                (LoadErrorKind::OutOfMemory, "free memory, or load a smaller model or dtype")
            }
            _ => (LoadErrorKind::Corrupt, "check the disk, then copy or download the model again"),
        };
        Self::new(kind, place.display(), format!("the file cannot be read: {error}"), help)
    }
}

/// Why a model could not be saved.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// The operating system refused; a full disk, say.
    #[error(
        "{0}\n  help: check free space and permissions there; nothing that was in place before was changed"
    )]
    Write(#[from] WriteError),
    /// The family cannot express this decoder.
    #[error("a {family} config.json cannot describe this model: {}", .problems.join("; "))]
    Shape {
        /// The family's name.
        family: &'static str,
        /// What does not fit, as sentences.
        problems: Vec<String>,
    },
    /// The decoder lacks a parameter that the checkpoint format needs.
    #[error("the decoder has no parameter for the tensor `{0}`; this is a bug")]
    Parameter(String),
    /// A tensor could not be laid out.
    #[error("the tensor `{name}` cannot be written: {message}; this is a bug")]
    Tensor {
        /// Its name.
        name: String,
        /// Why.
        message: String,
    },
}
