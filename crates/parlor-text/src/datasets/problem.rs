//! Where a row came from, and what is wrong with one.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Where a row came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowSource {
    /// The file.
    pub file: Arc<PathBuf>,
    /// Line on which the row begins, from 1. In `.parquet` and `.arrow` files, which have no lines, the row's
    /// number.
    pub line: usize,
}

impl std::fmt::Display for RowSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

impl RowSource {
    /// A problem of the row.
    pub(crate) fn problem(&self, why: &dyn std::fmt::Display) -> RowProblem {
        RowProblem { file: self.file.as_ref().clone(), line: self.line, message: why.to_string() }
    }
}

/// A row, or a part of a file, that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowProblem {
    /// The file.
    pub file: PathBuf,
    /// Line from 1; 0 for the file as a whole.
    pub line: usize,
    /// Why.
    pub message: String,
}

impl std::fmt::Display for RowProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file.display(), self.message),
            line => write!(f, "{}:{line}: {}", self.file.display(), self.message),
        }
    }
}

/// Reports list this many problems, and count the rest.
pub(crate) const KEPT_PROBLEMS: usize = 100;

/// The first of `count` problems, a line each.
pub(crate) fn shown(problems: &[RowProblem], count: usize) -> String {
    const SHOWN: usize = 20;
    let mut text: String = problems.iter().take(SHOWN).map(|problem| format!("\n  {problem}")).collect();
    let more = count.saturating_sub(SHOWN.min(problems.len()));
    if more > 0 {
        text.push_str(&format!("\n  and {more} more"));
    }
    text
}
