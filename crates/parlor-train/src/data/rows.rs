//! Reading rows: from one path, or from several data sets with their mixture and the split that is kept for
//! evaluation.
//!
//! The split is made before data sets are mixed, so that a row that a mixture draws twice is never on both sides.

use std::ops::ControlFlow;
use std::path::Path;

use parlor_text::{
    BatchLimits, DataConfig, DataReport, DataType, OnBadRow, ReadOptions, RowKind, SourcedRow, mix,
    read_batches, split,
};

use crate::error::TrainError;

/// Rows with the report of reading them.
#[derive(Clone, Debug)]
pub struct ReadRows {
    /// Usable rows of the kinds that `data.data_types` names.
    pub rows: Vec<SourcedRow>,
    /// Counts and problems of the files.
    pub report: DataReport,
    /// Warnings for the user.
    pub warnings: Vec<String>,
}

/// Training rows, and the rows kept for evaluation.
#[derive(Clone, Debug)]
pub struct TrainingRows {
    /// Rows to train on, in the order of the files or of the mixture.
    pub train: ReadRows,
    /// Rows that `data.val_size` keeps for evaluation; none when it is 0.
    pub eval: Vec<SourcedRow>,
    /// Number of rows of each data set, before the split and the mixture.
    pub sets: Vec<usize>,
}

/// Reads the data sets that `data.datasets` or `data.train_data_path` names.
///
/// # Errors
/// When a data set cannot be read, rows are bad and `data.on_bad_row` is `error`, no row is left, or
/// `data.val_size` leaves nothing.
pub fn read_training_rows(data: &DataConfig) -> Result<TrainingRows, TrainError> {
    let sets = data.training_sets();
    let mut read = Vec::with_capacity(sets.len());
    let mut counts = Vec::with_capacity(sets.len());
    let (mut eval, mut report, mut warnings) = (Vec::new(), DataReport::default(), Vec::new());
    for set in &sets {
        let options = ReadOptions {
            kind: set.kind,
            columns: set.columns.clone(),
            tags: set.tags.clone(),
            max_samples: set.max_samples,
        };
        let rows = read_rows(Path::new(&set.path), data, &options)?;
        counts.push(rows.rows.len());
        let (train, kept) = if data.val_size > 0.0 {
            split(rows.rows, data.val_size, data.seed)
                .map_err(|error| TrainError::Nothing(format!("{}: {error}", set.path)))?
        } else {
            (rows.rows, Vec::new())
        };
        read.push(train);
        eval.extend(kept);
        report.add(rows.report);
        warnings.extend(rows.warnings);
    }
    let weights: Option<Vec<f64>> = sets.iter().map(|set| set.weight).collect();
    let rows = match weights {
        Some(weights) => {
            let sizes: Vec<usize> = read.iter().map(Vec::len).collect();
            let mixed = mix(read, &weights, data.stopping_strategy, data.seed);
            let sizes: Vec<String> =
                sets.iter().zip(sizes).map(|(set, size)| format!("{} ({size} rows)", set.path)).collect();
            tracing::info!("{} rows are drawn from {}", mixed.len(), sizes.join(", "));
            mixed
        }
        None => read.into_iter().flatten().collect(),
    };
    Ok(TrainingRows { train: ReadRows { rows, report, warnings }, eval, sets: counts })
}

/// Problems listed in a message, which also counts all of them.
const SHOWN_PROBLEMS: usize = 20;

/// Reads the rows at `path`, of the kinds that `data.data_types` names.
///
/// # Errors
/// When nothing can be read, rows are bad and `data.on_bad_row` is `error`, or no row is left.
fn read_rows(path: &Path, data: &DataConfig, options: &ReadOptions) -> Result<ReadRows, TrainError> {
    let mut rows = Vec::new();
    let Scan { report, warnings } = scan_rows(path, data, options, BatchLimits::NONE, &mut |batch| {
        rows = batch;
        ControlFlow::Continue(())
    })?;
    Ok(ReadRows { rows, report, warnings })
}

/// The outcome of a scan.
#[derive(Debug)]
pub(super) struct Scan {
    /// Counts and problems of the files.
    pub(super) report: DataReport,
    /// Warnings for the user.
    pub(super) warnings: Vec<String>,
}

/// Reads rows batch by batch, so `take` sees rows before it is known whether later ones are bad. When `take`
/// breaks, there are no warnings about the file as a whole.
///
/// # Errors
/// Those of [`read_rows`].
pub(super) fn scan_rows(
    path: &Path,
    data: &DataConfig,
    options: &ReadOptions,
    limits: BatchLimits,
    take: &mut dyn FnMut(Vec<SourcedRow>) -> ControlFlow<()>,
) -> Result<Scan, TrainError> {
    let wanted = |kinds: &[DataType]| kinds.iter().any(|kind| data.data_types.contains(kind));
    let (chat, text) = (wanted(&[DataType::Chat]), wanted(&[DataType::Documents, DataType::Reports]));
    let (mut left, mut flow) = (0, ControlFlow::Continue(()));
    let report = read_batches(path, options, limits, &mut |mut rows| {
        let before = rows.len();
        rows.retain(|row| if row.row.kind() == RowKind::Text { text } else { chat });
        left += before - rows.len();
        if !rows.is_empty() {
            flow = take(rows);
        }
        flow
    });
    let report = report.map_err(|error| TrainError::data("cannot read the data", error))?;
    let mut warnings: Vec<String> = not_used(&report);
    let may_lack = flow.is_break() && data.on_bad_row == OnBadRow::Error;
    if report.problem_count > 0 && !may_lack {
        let shown = report.problems.iter().take(SHOWN_PROBLEMS).map(|problem| format!("\n  {problem}"));
        let mut text: String = shown.collect();
        let more = report.problem_count.saturating_sub(SHOWN_PROBLEMS.min(report.problems.len()));
        if more > 0 {
            text.push_str(&format!("\n  and {more} more"));
        }
        let count = report.problem_count;
        if data.on_bad_row == OnBadRow::Error {
            let rows = if count == 1 { "row" } else { "rows" };
            let what = format!("{} holds {count} bad {rows}", path.display());
            let help = format!("{text}\n  correct them, or leave them out by `data.on_bad_row: skip`");
            return Err(TrainError::data(what, help));
        }
        warnings.push(format!("{count} bad rows of {} are left out:{text}", path.display()));
    }
    if flow.is_break() {
        return Ok(Scan { report, warnings });
    }
    if !report.ignored.is_empty() {
        warnings.push(format!("{} files of other formats are left alone", report.ignored.len()));
    }
    let before = report.rows;
    if left == before {
        let what = format!("{}: `data.data_types` leaves out all {before} rows", path.display());
        return Err(TrainError::Nothing(what));
    }
    if left > 0 {
        warnings.push(format!("`data.data_types` leaves out {left} of {before} rows of {}", path.display()));
    }
    Ok(Scan { report, warnings })
}

/// Columns that are not used: the first few, and the number of the others.
fn not_used(report: &DataReport) -> Vec<String> {
    let mut lines: Vec<String> = report.not_used_lines().take(SHOWN_PROBLEMS).collect();
    let more = report.not_used_lines().count() - lines.len();
    if more > 0 {
        lines.push(format!("columns of {more} more files are not used"));
    }
    lines
}
