//! The rows of one file as its reader finds them: recognised, checked, and handed on in batches, or noted as problems.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use super::options::ReadOptions;
use super::row::{COLUMNS, Reading, Row, RowKind};
use super::template_inputs::TemplateInputs;
use super::{BatchLimits, DataReport, RowProblem, RowSource, SourcedRow};
use crate::survey::bytes;

/// Longest row in bytes. A longer one is reported and passed over, and is never held in memory whole.
pub(super) const MAX_ROW: usize = 16 << 20;

/// Rows of all files of a path, on their way to whoever takes them.
pub(super) struct Intake<'a> {
    options: &'a ReadOptions,
    limits: BatchLimits,
    take: &'a mut dyn FnMut(Vec<SourcedRow>) -> ControlFlow<()>,
    pub(super) report: DataReport,
    batch: Vec<SourcedRow>,
    batch_bytes: usize,
    stopped: bool,
}

impl<'a> Intake<'a> {
    pub(super) fn new(
        options: &'a ReadOptions,
        limits: BatchLimits,
        report: DataReport,
        take: &'a mut dyn FnMut(Vec<SourcedRow>) -> ControlFlow<()>,
    ) -> Self {
        Self { options, limits, take, report, batch: Vec::new(), batch_bytes: 0, stopped: false }
    }

    /// Whether as many rows were read as were asked for, nobody takes more, or too much is wrong.
    pub(super) fn full(&self) -> bool {
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
            self.hand_on();
        }
    }

    /// Hands on what was read since the last time.
    pub(super) fn hand_on(&mut self) {
        let batch = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        if !batch.is_empty() && !self.stopped {
            self.stopped = (self.take)(batch).is_break();
        }
    }
}

/// Where a reader puts what it finds.
pub(super) struct FileRows<'i, 'a> {
    file: Arc<PathBuf>,
    kind: Option<RowKind>,
    /// Columns that are noted as not used.
    unused: HashSet<String>,
    intake: &'i mut Intake<'a>,
}

impl<'i, 'a> FileRows<'i, 'a> {
    pub(super) fn new(file: PathBuf, intake: &'i mut Intake<'a>) -> Self {
        Self { file: Arc::new(file), kind: None, unused: HashSet::new(), intake }
    }

    pub(super) fn path(&self) -> &Path {
        &self.file
    }

    pub(super) fn options(&self) -> &'a ReadOptions {
        self.intake.options
    }

    /// Whether as many rows were read as were asked for.
    pub(super) fn full(&self) -> bool {
        self.intake.full()
    }

    /// Notes what is wrong with a line, or with the file as a whole (line 0).
    pub(super) fn problem(&mut self, line: usize, why: impl Into<String>) {
        self.intake.report.problem(&self.file, line, why);
    }

    /// A row as its file has it.
    pub(super) fn push(&mut self, line: usize, value: Value) {
        match Row::from_value(value, self.intake.options) {
            Ok(Reading { row, inputs, unused }) => {
                for column in unused {
                    self.unused(line, column);
                }
                self.push_row(line, row, inputs);
            }
            Err(why) => self.problem(line, why),
        }
    }

    /// Notes a column that a row is not made of: by a warning where it means something in other rows.
    pub(super) fn unused(&mut self, line: usize, column: String) {
        if !self.unused.insert(column.clone()) {
            return;
        }
        if !COLUMNS.contains(&column.as_str()) {
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

    /// A file that is one text.
    pub(super) fn push_text(&mut self, text: String) {
        self.push_row(1, Row::Text(text), TemplateInputs::default());
    }
}
