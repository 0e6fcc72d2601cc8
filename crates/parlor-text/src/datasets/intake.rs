//! Takes the objects that readers of formats find, parses them into rows, and passes these on in batches.
//! What cannot be used becomes a problem in the report.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use super::problem::{RowProblem, RowSource};
use super::report::DataReport;
use super::rows::{self, KNOWN_COLUMNS, ParsedRow, ReadOptions, Row, RowKind, TemplateInputs, bytes};

/// Longest row in bytes. A longer one is a problem, and is never in memory as a whole.
pub(crate) const MAX_ROW: usize = 16 << 20;

/// A row and where it came from.
#[derive(Clone, Debug, PartialEq)]
pub struct SourcedRow {
    /// The row.
    pub row: Row,
    /// Template variables that it sets.
    pub inputs: TemplateInputs,
    /// Where it came from.
    pub source: RowSource,
}

/// Limits of a batch: it ends with the row that reaches one of them, and reading ends with the last problem.
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
    /// One batch for everything.
    pub const NONE: Self = Self { rows: usize::MAX, bytes: usize::MAX, problems: usize::MAX };
}

/// The rows of all files of a path, and where they go.
pub(crate) struct Intake<'a> {
    options: &'a ReadOptions,
    limits: BatchLimits,
    consume: &'a mut dyn FnMut(Vec<SourcedRow>) -> ControlFlow<()>,
    pub(crate) report: DataReport,
    batch: Vec<SourcedRow>,
    batch_bytes: usize,
    stopped: bool,
}

impl<'a> Intake<'a> {
    pub(crate) fn new(
        options: &'a ReadOptions,
        limits: BatchLimits,
        report: DataReport,
        consume: &'a mut dyn FnMut(Vec<SourcedRow>) -> ControlFlow<()>,
    ) -> Self {
        Self { options, limits, consume, report, batch: Vec::new(), batch_bytes: 0, stopped: false }
    }

    /// Whether reading ends: by the number of rows, by the number of problems, or because the consumer stopped.
    pub(crate) fn full(&self) -> bool {
        self.stopped
            || self.report.problem_count >= self.limits.problems
            || self.options.max_samples.is_some_and(|most| self.report.rows >= most)
    }

    fn add(&mut self, row: SourcedRow) {
        self.report.rows += 1;
        *self.report.kinds.entry(row.row.kind()).or_insert(0) += 1;
        self.batch_bytes += bytes(&row.row);
        self.batch.push(row);
        if self.batch.len() >= self.limits.rows || self.batch_bytes >= self.limits.bytes {
            self.flush();
        }
    }

    /// Passes on the rows read since the last time.
    pub(crate) fn flush(&mut self) {
        let batch = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        if !batch.is_empty() && !self.stopped {
            self.stopped = (self.consume)(batch).is_break();
        }
    }
}

/// The intake of one file.
pub(crate) struct FileRows<'i, 'a> {
    file: Arc<PathBuf>,
    kind: Option<RowKind>,
    /// Columns that are reported as not used.
    unused: HashSet<String>,
    intake: &'i mut Intake<'a>,
}

impl<'i, 'a> FileRows<'i, 'a> {
    pub(crate) fn new(file: PathBuf, intake: &'i mut Intake<'a>) -> Self {
        Self { file: Arc::new(file), kind: None, unused: HashSet::new(), intake }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.file
    }

    pub(crate) fn options(&self) -> &'a ReadOptions {
        self.intake.options
    }

    /// Whether reading ends.
    pub(crate) fn full(&self) -> bool {
        self.intake.full()
    }

    /// Reports a problem of a line, or of the file as a whole (line 0).
    pub(crate) fn problem(&mut self, line: usize, why: impl Into<String>) {
        self.intake.report.problem(&self.file, line, why);
    }

    /// Parses an object of the file as a row.
    pub(crate) fn push(&mut self, line: usize, value: Value) {
        match rows::parse(value, self.intake.options) {
            Ok(ParsedRow { row, inputs, unused }) => {
                for column in unused {
                    self.unused(line, column);
                }
                self.push_row(line, row, inputs);
            }
            Err(why) => self.problem(line, why),
        }
    }

    /// Reports a column that is not used, by a warning when its name is known in rows of other kinds.
    pub(crate) fn unused(&mut self, line: usize, column: String) {
        if !self.unused.insert(column.clone()) {
            return;
        }
        if !KNOWN_COLUMNS.contains(&column.as_str()) {
            return self.intake.report.not_used(&self.file, column);
        }
        let message = if self.options().columns.named().next().is_some() {
            format!("`{column}` is not used: `data.columns` does not name it")
        } else {
            format!("`{column}` is not used: a row of this kind is not made of it")
        };
        let file = self.file.as_ref().clone();
        self.intake.report.warnings.push(RowProblem { file, line, message });
    }

    fn push_row(&mut self, line: usize, row: Row, inputs: TemplateInputs) {
        if self.full() {
            return;
        }
        let this = row.kind();
        let expected = *self.kind.get_or_insert(this);
        if this != expected {
            let why =
                format!("a row of kind `{this}` in a file of `{expected}` rows; keep one kind per file");
            return self.problem(line, why);
        }
        let source = RowSource { file: Arc::clone(&self.file), line };
        self.intake.add(SourcedRow { row, inputs, source });
    }

    /// Adds a file that is a single text.
    pub(crate) fn push_text(&mut self, text: String) {
        self.push_row(1, Row::Text(text), TemplateInputs::default());
    }
}
