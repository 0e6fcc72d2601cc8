//! The split into training and evaluation rows, as `Dataset.train_test_split` makes it.

use super::shuffle::epoch_order;
use crate::datasets::SourcedRow;

/// The generator's stream. Those of the epochs' orders begin at 1 and never come this far.
const SPLIT: u64 = u64::MAX - 2;

/// Too few rows to evaluate on some and train on others.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error(
    "`data.val_size` is {val_size}, which keeps {kept} of {rows} rows for evaluation and leaves none to train on"
)]
pub struct TooFewRows {
    /// `data.val_size`.
    pub val_size: f64,
    /// Rows that it takes for evaluation.
    pub kept: usize,
    /// Number of rows.
    pub rows: usize,
}

/// Splits `rows` into those to train on and those to evaluate on, both in the order of `rows`. A `val_size`
/// below 1 is the share to evaluate on, rounded up; from 1 on it is their number.
///
/// # Errors
/// [`TooFewRows`] when none would be left to train on.
pub fn split(
    rows: Vec<SourcedRow>,
    val_size: f64,
    seed: u64,
) -> Result<(Vec<SourcedRow>, Vec<SourcedRow>), TooFewRows> {
    let mut keep = eval_rows(rows.len(), val_size, seed)?.into_iter();
    let (eval, train) = rows.into_iter().partition(|_| keep.next().unwrap_or(false));
    Ok((train, eval))
}

/// `[count]`: whether [`split`] takes the row for evaluation.
///
/// # Errors
/// [`TooFewRows`] when none would be left to train on.
pub fn eval_rows(count: usize, val_size: f64, seed: u64) -> Result<Vec<bool>, TooFewRows> {
    let kept = if val_size < 1.0 { (val_size * count as f64).ceil() } else { val_size } as usize;
    if kept >= count {
        return Err(TooFewRows { val_size, kept, rows: count });
    }
    let mut keep = vec![false; count];
    for index in epoch_order(count, seed, SPLIT).into_iter().take(kept) {
        keep[index] = true;
    }
    Ok(keep)
}
