//! The rows to train on, from one path or several data sets, and those of them that are kept for evaluation.
//!
//! Rows are kept before data sets are mixed, so that a row that a mixture draws twice is never on both sides.

use std::path::Path;

use parlor_text::{DataConfig, DataReport, ReadOptions, SourcedRow, mix, split};

use crate::error::TrainError;
use crate::materials::{Rows, read_rows_with};

/// Rows of a run.
#[derive(Clone, Debug)]
pub struct TrainingRows {
    /// Rows to train on, in the order of the files or of the mixture.
    pub train: Rows,
    /// Rows that `data.val_size` keeps for evaluation; none when it is 0.
    pub eval: Vec<SourcedRow>,
    /// Rows of each data set, before any is kept or drawn.
    pub sets: Vec<usize>,
}

/// Reads what `data.datasets`, or `data.train_data_path`, names.
///
/// # Errors
/// Those of [`read_rows`](crate::materials::read_rows), for each data set; and when `data.val_size` leaves nothing.
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
        let rows = read_rows_with(Path::new(&set.path), data, &options)?;
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
    Ok(TrainingRows { train: Rows { rows, report, warnings }, eval, sets: counts })
}
