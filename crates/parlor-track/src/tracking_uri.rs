//! `monitoring.mlflow.tracking_uri`: what kind of store it names.
//!
//! By MLflow's own rules: a path, a `file:` URI, an HTTP server, a database, Databricks. Relative paths are relative to
//! the working directory.

use std::path::PathBuf;

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

/// Where MLflow's data is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrackingUri {
    /// A directory in MLflow's file-store layout.
    Directory(PathBuf),
    /// A tracking server.
    Server,
    /// A database that MLflow opens itself.
    Database,
    /// Databricks.
    Databricks,
    /// An unknown scheme.
    Unknown(String),
    /// Empty.
    Empty,
}

impl TrackingUri {
    /// Reads a tracking URI.
    pub fn parse(text: &str) -> Self {
        let text = text.trim();
        if text.is_empty() {
            return Self::Empty;
        }
        if text == "databricks" || text == "databricks-uc" {
            return Self::Databricks;
        }
        let Some((scheme, rest)) = text.split_once(':') else {
            return Self::Directory(PathBuf::from(text));
        };
        let starts_well = scheme.starts_with(|c: char| c.is_ascii_alphabetic());
        let is_scheme = scheme.len() > 1
            && starts_well
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
        if !is_scheme {
            // `C:\runs`, `./a:b`
            return Self::Directory(PathBuf::from(text));
        }
        let scheme = scheme.to_ascii_lowercase();
        match scheme.split('+').next().unwrap_or_default() {
            "file" => file_path(rest),
            "http" | "https" => Self::Server,
            "sqlite" | "mysql" | "postgresql" | "postgres" | "mssql" => Self::Database,
            "databricks" | "databricks-uc" => Self::Databricks,
            _ => Self::Unknown(scheme),
        }
    }
}

/// The path of `file:REST`: `///abs`, `/abs`, `//localhost/abs`, or relative.
fn file_path(rest: &str) -> TrackingUri {
    let path = match rest.strip_prefix("//") {
        None => rest,
        Some(after) => match after.split_once('/') {
            Some(("" | "localhost", _)) => &after[after.find('/').unwrap_or(0)..],
            _ => return TrackingUri::Unknown(format!("file://{after}")),
        },
    };
    if path.is_empty() {
        return TrackingUri::Empty;
    }
    match percent_decode_str(path).decode_utf8() {
        Ok(path) => TrackingUri::Directory(PathBuf::from(path.as_ref())),
        Err(_) => TrackingUri::Unknown(format!("file:{rest}")),
    }
}

/// Bytes of a path that are percent-encoded in a URI.
const ESCAPED: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'`')
    .add(b'{')
    .add(b'}');

/// The `file:` URI of an absolute path.
pub(crate) fn file_uri(path: &str) -> String {
    let path = path.replace('\\', "/");
    let slash = if path.starts_with('/') { "" } else { "/" };
    format!("file://{slash}{}", utf8_percent_encode(&path, ESCAPED))
}
