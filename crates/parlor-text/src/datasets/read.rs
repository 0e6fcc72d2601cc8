//! Reads the rows of a file, a directory or a pattern.
//!
//! A reader per format turns files into objects with named fields (`formats/`), and `rows/` turns those into
//! rows, so that every kind of row can stand in every format. The first usable row of a file decides the kind
//! of its rows.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use super::files;
use super::formats::{Format, arrow, document, format, json, parquet, table, text};
use super::intake::{BatchLimits, FileRows, Intake, SourcedRow};
use super::report::{DataError, DataReport};
use super::rows::ReadOptions;
use crate::lfs::{LFS_POINTER, is_lfs_pointer_file};

/// Rows, and a report of reading them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dataset {
    /// Usable rows, file by file in the order of their names.
    pub rows: Vec<SourcedRow>,
    /// The report.
    pub report: DataReport,
}

/// Reads a file, a directory, or the files that match a pattern (`data/*.jsonl.gz`).
///
/// Rows that cannot be used are in the report, with file and line. Whether they stop a run is the caller's
/// decision (`data.on_bad_row`).
///
/// ```
/// use parlor_text::RowKind;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// let file = directory.path().join("rows.jsonl");
/// std::fs::write(&file, "{\"prompt\": \"2 + 2 =\", \"completion\": \" 4\"}\n{\"prompt\": 7}\n")?;
/// let dataset = parlor_text::read(&file)?;
/// assert_eq!(dataset.rows.len(), 1);
/// assert_eq!(dataset.report.kinds[&RowKind::PromptCompletion], 1);
/// assert_eq!(dataset.report.problems[0].line, 2);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`DataError`] when the path cannot be read or holds no usable row.
pub fn read(path: &Path) -> Result<Dataset, DataError> {
    read_with(path, &ReadOptions::default())
}

/// As [`read`], with `options` for the rows.
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

/// Reads as [`read_with`] does, and passes the rows to `consume` batch by batch, in order. Of a file with a
/// row per line, or a table, no more than a batch is in memory. Stops early when `consume` breaks.
///
/// # Errors
/// [`DataError`] when the path cannot be read or holds no usable row.
pub fn read_batches(
    path: &Path,
    options: &ReadOptions,
    limits: BatchLimits,
    consume: &mut dyn FnMut(Vec<SourcedRow>) -> ControlFlow<()>,
) -> Result<DataReport, DataError> {
    let mut report = DataReport::default();
    let files = files::list(path, &mut report)?;
    let mut intake = Intake::new(options, limits, report, consume);
    for file in files {
        if intake.full() {
            break;
        }
        intake.report.files += 1;
        let format = format(&file);
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
    intake.flush();
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
