//! What is wrong with a configuration, where, and what to do.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// Layers of values, in rising order of precedence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Layer {
    /// The default.
    Default,
    /// A configuration file.
    File,
    /// The `.env` file.
    DotEnv,
    /// An environment variable.
    Environment,
    /// `--set KEY=VALUE`.
    Flag,
    /// Set while the program runs.
    Update,
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Layer::Default => "default",
            Layer::File => "file",
            Layer::DotEnv => ".env",
            Layer::Environment => "environment",
            Layer::Flag => "--set",
            Layer::Update => "update",
        })
    }
}

/// A place in a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file, or the name of the variable or flag.
    pub file: PathBuf,
    /// Line from 1.
    pub line: usize,
    /// Column from 1, in characters.
    pub column: usize,
    /// Bytes of `source` to underline.
    pub offset: usize,
    /// Number of bytes.
    pub len: usize,
    /// The whole text.
    pub source: Arc<str>,
}

/// A problem of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key, `training.lora.r`; empty for the file as a whole.
    pub path: String,
    /// What is wrong, and what was expected.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
    /// Its place.
    pub place: Option<Place>,
    /// The layer of the value.
    pub layer: Option<Layer>,
}

impl Problem {
    /// A problem with the value of the key `path`. Its place is found by the key.
    pub fn at(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into(), help: None, place: None, layer: None }
    }

    /// Adds what to do.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.place, self.layer) {
            (Some(place), Some(Layer::File | Layer::DotEnv) | None) => {
                write!(f, "{}:{}:{}: ", place.file.display(), place.line, place.column)?;
            }
            // The key, which follows, names it.
            (Some(_), Some(Layer::Update)) => {}
            (Some(place), Some(_)) => write!(f, "{}: ", place.file.display())?,
            (None, _) => {}
        }
        if !self.path.is_empty() {
            write!(f, "`{}`: ", self.path)?;
        }
        f.write_str(&self.message)?;
        if let Some(help) = &self.help {
            write!(f, "\n  help: {help}")?;
        }
        Ok(())
    }
}

/// Everything that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct ConfigError {
    /// In the order of the layers and, within one, of the text; at least one.
    pub problems: Vec<Problem>,
}

/// The beginning of a long text, on one line.
pub(crate) fn short(text: &str) -> String {
    const LONGEST: usize = 80;
    let mut line: String = text.chars().take(LONGEST).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(LONGEST).is_some() {
        line.push_str("...");
    }
    line
}
