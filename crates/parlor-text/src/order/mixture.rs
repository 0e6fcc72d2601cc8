//! Mixes data sets by weights, as `datasets.interleave_datasets` (5.2) does.
//!
//! The rules are HF's, the random numbers are not: ChaCha8, seeded by the seed alone, so that a resumed run
//! and one with another number of threads see the same rows in the same order.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::config::StoppingStrategy;
use crate::datasets::SourcedRow;

/// The generator's stream. Those of the epochs' orders begin at 1 and never come this far.
const MIXTURE: u64 = u64::MAX;

/// Draws rows from `sets` by their `weights` (positive, one per set) until one set is exhausted, or all are.
/// The rows of a set keep their order, and start over when the set is exhausted early. Empty sets are left
/// out.
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
    let mut exhausted = vec![false; sets.len()];
    let mut mixed = Vec::new();
    loop {
        let ended = match strategy {
            StoppingStrategy::FirstExhausted => exhausted.iter().any(|&exhausted| exhausted),
            StoppingStrategy::AllExhausted => exhausted.iter().all(|&exhausted| exhausted),
        };
        if ended || sets.is_empty() {
            return mixed;
        }
        // 53 bits, which a double holds exactly: uniform in [0, 1).
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
            exhausted[chosen] = true;
            next[chosen] = 0;
        }
    }
}
