//! Rows of text from the user's files: what kinds there are, which file each came from, and what is wrong.
//!
//! One file per format turns it into objects with named fields, and `row.rs` makes rows of those, so that every kind
//! of row can stand in every format. Row kinds are those of TRL and of the tools its users come from; the kind is
//! decided by a file's first usable row.

mod arrow;
mod columnar;
mod compression;
mod conversation;
mod document;
mod docx;
mod file_rows;
mod files;
mod guarded;
mod json;
mod label;
mod options;
mod parquet;
mod parts;
mod preference;
mod row;
mod table;
mod template_inputs;
mod text;
mod turns;
mod write;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::lfs::{LFS_POINTER, is_lfs_pointer_file};
use file_rows::{FileRows, Intake};
use files::Format;
pub use options::ReadOptions;
pub use row::{Content, Row, RowKind};
pub use template_inputs::TemplateInputs;
pub(crate) use turns::{HISTORY, SYSTEM};
pub use write::write_rows;

/// Where a row came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowSource {
    /// The file.
    pub file: Arc<PathBuf>,
    /// Line on which the row begins, from 1; in `.parquet` and `.arrow` files, which have no lines, its number.
    pub line: usize,
}

impl std::fmt::Display for RowSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

impl RowSource {
    /// What is wrong with it.
    pub(crate) fn problem(&self, why: &dyn std::fmt::Display) -> RowProblem {
        RowProblem { file: self.file.as_ref().clone(), line: self.line, message: why.to_string() }
    }
}

/// A row and where it came from.
#[derive(Clone, Debug, PartialEq)]
pub struct SourcedRow {
    /// The row.
    pub row: Row,
    /// What its chat template sees besides.
    pub inputs: TemplateInputs,
    /// Its place.
    pub source: RowSource,
}

/// A row, or a part of a file, that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowProblem {
    /// The file.
    pub file: PathBuf,
    /// Line from 1; 0 when it is the file as a whole.
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
    /// Columns that have a meaning, but not in the rows of their file: each once a file, with the first line.
    pub warnings: Vec<RowProblem>,
    /// Columns without a meaning, file by file.
    pub unused: Vec<UnusedColumns>,
    /// Files of other kinds, left alone.
    pub ignored: Vec<PathBuf>,
}

/// Columns of a file that no row is made of.
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

/// Problems beyond this many are counted, not kept.
pub(crate) const KEPT_PROBLEMS: usize = 100;

impl DataReport {
    /// Takes in what was found elsewhere.
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

    /// Takes in rows that cannot be used, of which `problems` are the first.
    pub fn add_problems(&mut self, count: usize, problems: Vec<RowProblem>) {
        self.problem_count += count;
        let room = KEPT_PROBLEMS.saturating_sub(self.problems.len());
        self.problems.extend(problems.into_iter().take(room));
    }

    /// What of the files is not used, a line each.
    pub fn not_used_lines(&self) -> impl Iterator<Item = String> {
        self.warnings.iter().map(ToString::to_string).chain(self.unused.iter().map(ToString::to_string))
    }

    fn not_used(&mut self, file: &Path, column: String) {
        match self.unused.last_mut().filter(|last| last.file == file) {
            Some(last) => last.columns.push(column),
            None => self.unused.push(UnusedColumns { file: file.to_owned(), columns: vec![column] }),
        }
    }

    fn problem(&mut self, file: &Path, line: usize, message: impl Into<String>) {
        self.problem_count += 1;
        if self.problems.len() < KEPT_PROBLEMS {
            self.problems.push(RowProblem { file: file.to_owned(), line, message: message.into() });
        }
    }
}

/// Rows and what was found on the way.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dataset {
    /// Usable rows, file by file in the order of their names.
    pub rows: Vec<SourcedRow>,
    /// The report.
    pub report: DataReport,
}

/// Why there is nothing to read.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The path.
    #[error("{}: {why}", .path.display())]
    Path {
        /// What was to be read.
        path: PathBuf,
        /// Why it cannot be.
        why: String,
    },
    /// Files were read, but no row of them can be used.
    #[error("{}: no usable row{}", .path.display(), listed(.problems))]
    Empty {
        /// What was read.
        path: PathBuf,
        /// Why not, row by row (the first ones).
        problems: Vec<RowProblem>,
    },
}

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

fn listed(problems: &[RowProblem]) -> String {
    let shown = problems.iter().take(10).map(|problem| format!("\n  {problem}")).collect::<String>();
    if problems.is_empty() { " (every file is empty)".to_owned() } else { format!(":{shown}") }
}

/// Reads a file, a directory, or the files that match a pattern (`data/*.jsonl.gz`). Rows that cannot be used are in the report, with file and line; whether they
/// stop the run is the caller's decision (`data.on_bad_row`).
///
/// # Errors
/// [`DataError`] when the path cannot be read or holds no usable row.
pub fn read(path: &Path) -> Result<Dataset, DataError> {
    read_with(path, &ReadOptions::default())
}

/// The same, with what `options` say of the rows.
///
/// # Errors
/// [`DataError`] when the path cannot be read or holds no usable row.
pub fn read_with(path: &Path, options: &ReadOptions) -> Result<Dataset, DataError> {
    let mut rows = Vec::new();
    let report = read_batches(path, options, BatchLimits::NONE, &mut |batch| {
        rows = batch;
        ControlFlow::Continue(())
    })?;
    Ok(Dataset { rows, report })
}

/// How much is read at a time: a batch ends with the row that reaches one of these, and reading with the last problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    /// Rows.
    pub rows: usize,
    /// Bytes of their texts.
    pub bytes: usize,
    /// Problems after which nothing more is read.
    pub problems: usize,
}

impl BatchLimits {
    /// Everything is one batch.
    pub const NONE: Self = Self { rows: usize::MAX, bytes: usize::MAX, problems: usize::MAX };
}

/// Reads as [`read_with`] does, and hands the rows on batch by batch, in their order, instead of holding them: of a file
/// with a row per line, or a table, no more than a batch is in memory. Stops early when `take` breaks.
///
/// # Errors
/// [`DataError`] when the path cannot be read or holds no usable row.
pub fn read_batches(
    path: &Path,
    options: &ReadOptions,
    limits: BatchLimits,
    take: &mut dyn FnMut(Vec<SourcedRow>) -> ControlFlow<()>,
) -> Result<DataReport, DataError> {
    let mut report = DataReport::default();
    let files = files::list(path, &mut report)?;
    let mut intake = Intake::new(options, limits, report, take);
    for file in files {
        if intake.full() {
            break;
        }
        intake.report.files += 1;
        let format = files::format(&file);
        let mut out = FileRows::new(file, &mut intake);
        if is_lfs_pointer_file(out.path()) {
            out.problem(0, LFS_POINTER);
            continue;
        }
        match format {
            Some(Format::JsonLines) => json::read_lines(&mut out),
            Some(Format::Json) => json::read_whole(&mut out),
            Some(Format::Text) => text::read(&mut out),
            Some(Format::Csv) => table::read(&mut out, None),
            Some(Format::Tsv) => table::read(&mut out, Some(b'\t')),
            Some(Format::Parquet) => parquet::read(&mut out),
            Some(Format::Arrow) => arrow::read(&mut out),
            Some(Format::Document(kind)) => document::read(&mut out, kind),
            None => {}
        }
    }
    intake.hand_on();
    let report = intake.report;
    if report.rows == 0 {
        return Err(DataError::Empty { path: path.to_owned(), problems: report.problems });
    }
    Ok(report)
}

/// The files that `path` stands for, in the order in which they are read.
///
/// # Errors
/// [`DataError`] when there is none.
pub fn data_files(path: &Path) -> Result<Vec<PathBuf>, DataError> {
    files::list(path, &mut DataReport::default())
}
