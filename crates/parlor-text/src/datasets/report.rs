//! What was read and what was left out, and why there is nothing to read.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::problem::{KEPT_PROBLEMS, RowProblem};
use super::rows::RowKind;

/// What was read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DataReport {
    /// Files that were read.
    pub files: usize,
    /// Usable rows.
    pub rows: usize,
    /// Usable rows per kind.
    pub kinds: std::collections::BTreeMap<RowKind, usize>,
    /// Number of problems.
    pub problem_count: usize,
    /// The first of them.
    pub problems: Vec<RowProblem>,
    /// Columns with a known name that the rows of their file do not use: each once per file, with the first line.
    pub warnings: Vec<RowProblem>,
    /// Columns without a known name, file by file.
    pub unused: Vec<UnusedColumns>,
    /// Files of other formats.
    pub ignored: Vec<PathBuf>,
}

/// Columns of a file that are not used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UnusedColumns {
    /// The file.
    pub file: PathBuf,
    /// Their names.
    pub columns: Vec<String>,
}

impl std::fmt::Display for UnusedColumns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: not used: `{}`", self.file.display(), self.columns.join("`, `"))
    }
}

impl DataReport {
    /// Adds another report.
    pub fn add(&mut self, other: DataReport) {
        self.files += other.files;
        self.rows += other.rows;
        for (kind, rows) in other.kinds {
            *self.kinds.entry(kind).or_insert(0) += rows;
        }
        self.add_problems(other.problem_count, other.problems);
        self.warnings.extend(other.warnings);
        self.unused.extend(other.unused);
        self.ignored.extend(other.ignored);
    }

    /// Adds `count` rows that cannot be used, of which `problems` are the first.
    pub fn add_problems(&mut self, count: usize, problems: Vec<RowProblem>) {
        self.problem_count += count;
        let room = KEPT_PROBLEMS.saturating_sub(self.problems.len());
        self.problems.extend(problems.into_iter().take(room));
    }

    /// The columns that are not used, a line each.
    pub fn not_used_lines(&self) -> impl Iterator<Item = String> {
        self.warnings.iter().map(ToString::to_string).chain(self.unused.iter().map(ToString::to_string))
    }

    pub(super) fn not_used(&mut self, file: &Path, column: String) {
        match self.unused.last_mut().filter(|last| last.file == file) {
            Some(last) => last.columns.push(column),
            None => self.unused.push(UnusedColumns { file: file.to_owned(), columns: vec![column] }),
        }
    }

    pub(super) fn problem(&mut self, file: &Path, line: usize, message: impl Into<String>) {
        self.problem_count += 1;
        if self.problems.len() < KEPT_PROBLEMS {
            self.problems.push(RowProblem { file: file.to_owned(), line, message: message.into() });
        }
    }
}

/// Why there is nothing to read.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The path cannot be read.
    #[error("{}: {why}", .path.display())]
    Path {
        /// The path.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// Files were read, but no row of them can be used.
    #[error("{}: no usable row{}", .path.display(), listed(.problems))]
    Empty {
        /// The path.
        path: PathBuf,
        /// The first problems.
        problems: Vec<RowProblem>,
    },
}

fn listed(problems: &[RowProblem]) -> String {
    let shown = problems.iter().take(10).map(|problem| format!("\n  {problem}")).collect::<String>();
    if problems.is_empty() { " (every file is empty)".to_owned() } else { format!(":{shown}") }
}
