//! The rows of one file as its reader finds them: recognised, checked, and added to the dataset or its problems.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use super::options::ReadOptions;
use super::row::{Row, RowKind};
use super::{Dataset, RowSource, SourcedRow};

/// Longest row in bytes. A longer one is reported and passed over, and is never held in memory whole.
pub(super) const MAX_ROW: usize = 16 << 20;

/// Where a reader puts what it finds.
pub(super) struct FileRows<'a> {
    file: Arc<PathBuf>,
    kind: Option<RowKind>,
    options: &'a ReadOptions,
    dataset: &'a mut Dataset,
}

impl<'a> FileRows<'a> {
    pub(super) fn new(file: PathBuf, options: &'a ReadOptions, dataset: &'a mut Dataset) -> Self {
        Self { file: Arc::new(file), kind: None, options, dataset }
    }

    pub(super) fn path(&self) -> &Path {
        &self.file
    }

    pub(super) fn options(&self) -> &'a ReadOptions {
        self.options
    }

    /// Whether as many rows were read as were asked for.
    pub(super) fn full(&self) -> bool {
        self.options.max_samples.is_some_and(|most| self.dataset.rows.len() >= most)
    }

    /// Notes what is wrong with a line, or with the file as a whole (line 0).
    pub(super) fn problem(&mut self, line: usize, why: impl Into<String>) {
        self.dataset.report.problem(&self.file, line, why);
    }

    /// A row as its file has it.
    pub(super) fn push(&mut self, line: usize, value: Value) {
        match Row::from_value(value, self.options) {
            Ok(row) => self.push_row(line, row),
            Err(why) => self.problem(line, why),
        }
    }

    fn push_row(&mut self, line: usize, row: Row) {
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
        self.dataset.rows.push(SourcedRow { row, source });
    }

    /// A file that is one text.
    pub(super) fn push_text(&mut self, text: String) {
        self.push_row(1, Row::Text(text));
    }
}
