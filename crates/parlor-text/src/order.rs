//! The order in which examples are seen: shuffled anew each epoch, by the seed alone, and resumable.
//!
//! Fisher-Yates over ChaCha8, written here because the order must never change between versions of a crate:
//! a resumed run continues in it.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

/// Where a run stands in its data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// Epoch, from 0.
    pub epoch: u64,
    /// Examples of this epoch's order that were used.
    pub index: usize,
}

/// The order of `examples` examples in `epoch`.
pub fn epoch_order(examples: usize, seed: u64, epoch: u64) -> Vec<usize> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(epoch.wrapping_add(1));
    let mut order: Vec<usize> = (0..examples).collect();
    for last in (1..examples).rev() {
        order.swap(last, below(&mut rng, last as u64 + 1) as usize);
    }
    order
}

/// A uniform number below `n`, without bias: draws from the incomplete last interval are repeated.
pub(crate) fn below(rng: &mut ChaCha8Rng, n: u64) -> u64 {
    let limit = u64::MAX - u64::MAX % n;
    loop {
        let draw = rng.next_u64();
        if draw < limit {
            return draw % n;
        }
    }
}
