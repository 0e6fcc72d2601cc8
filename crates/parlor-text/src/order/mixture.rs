//! Data sets to one: by weights, as `datasets.interleave_datasets` (5.2) mixes; and the rows kept for evaluation, as
//! `Dataset.train_test_split` keeps them.
//!
//! The rules are HF's, the random numbers are not: ChaCha8 by the seed alone, so that a resumed run, or one on another
//! number of threads, sees the same rows in the same order.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::dataset_config::StoppingStrategy;
use crate::datasets::SourcedRow;
use crate::order::epoch_order;

/// Streams of the generator; those of the epochs' orders begin at 1 and never come this far.
const MIXTURE: u64 = u64::MAX;
const SPLIT: u64 = u64::MAX - 2;

/// Draws rows from `sets` by their `weights` (positive, as many as sets) until one is used up, or all are. A set's own
/// rows keep their order, and begin anew when they are used up early. An empty set is left out.
pub fn mix(
    sets: Vec<Vec<SourcedRow>>,
    weights: &[f64],
    strategy: StoppingStrategy,
    seed: u64,
) -> Vec<SourcedRow> {
    let sets: Vec<(Vec<SourcedRow>, f64)> =
        sets.into_iter().zip(weights.iter().copied()).filter(|(rows, _)| !rows.is_empty()).collect();
    let total: f64 = sets.iter().map(|(_, weight)| weight).sum();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(MIXTURE);
    let mut next = vec![0; sets.len()];
    let mut used_up = vec![false; sets.len()];
    let mut mixed = Vec::new();
    loop {
        let ended = match strategy {
            StoppingStrategy::FirstExhausted => used_up.iter().any(|&used_up| used_up),
            StoppingStrategy::AllExhausted => used_up.iter().all(|&used_up| used_up),
        };
        if ended || sets.is_empty() {
            return mixed;
        }
        // 53 bits: a number in [0, 1) that a double holds exactly.
        let mut draw = (rng.next_u64() >> 11) as f64 * (-53f64).exp2() * total;
        let mut chosen = 0;
        while chosen + 1 < sets.len() && draw >= sets[chosen].1 {
            draw -= sets[chosen].1;
            chosen += 1;
        }
        let rows = &sets[chosen].0;
        mixed.push(rows[next[chosen]].clone());
        next[chosen] += 1;
        if next[chosen] == rows.len() {
            used_up[chosen] = true;
            next[chosen] = 0;
        }
    }
}

/// Too few rows to keep some and train on others.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error(
    "`data.val_size` is {val_size}, which keeps {kept} of {rows} rows for evaluation and leaves none to train on"
)]
pub struct TooFewRows {
    /// `data.val_size`.
    pub val_size: f64,
    /// Rows that it keeps.
    pub kept: usize,
    /// Rows that there are.
    pub rows: usize,
}

/// Takes rows for evaluation out of `rows`: below 1 `val_size` is a share, rounded up, from 1 a number. Both parts keep
/// the order of the rows. Returns those to train on, and those to evaluate on.
///
/// # Errors
/// [`TooFewRows`] when none would be left to train on.
pub fn split(
    rows: Vec<SourcedRow>,
    val_size: f64,
    seed: u64,
) -> Result<(Vec<SourcedRow>, Vec<SourcedRow>), TooFewRows> {
    let mut keep = kept_rows(rows.len(), val_size, seed)?.into_iter();
    let (eval, train) = rows.into_iter().partition(|_| keep.next().unwrap_or(false));
    Ok((train, eval))
}

/// Which of `count` rows [`split`] keeps for evaluation.
///
/// # Errors
/// [`TooFewRows`] when none would be left to train on.
pub fn kept_rows(count: usize, val_size: f64, seed: u64) -> Result<Vec<bool>, TooFewRows> {
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
