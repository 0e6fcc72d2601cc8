//! The order in which examples are seen: shuffled anew each epoch, by the seed alone, and resumable.
//!
//! A corpus that is read while it is trained on has no such order: it is shuffled by a buffer, whose draws are the seed's and
//! the epoch's too.
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

/// Shuffles a sequence that is not known whole: what comes in takes the place of one of those in the buffer, drawn at
/// random, which goes out (as `IterableDataset.shuffle` does).
#[derive(Debug)]
pub struct ShuffleBuffer<T> {
    held: Vec<T>,
    size: usize,
    rng: ChaCha8Rng,
}

impl<T> ShuffleBuffer<T> {
    /// An empty one for `size` (at least one) values of `epoch`.
    pub fn new(size: usize, seed: u64, epoch: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(epoch.wrapping_add(1));
        Self { held: Vec::new(), size: size.max(1), rng }
    }

    /// Takes a value in; gives one out once it is full.
    pub fn push(&mut self, value: T) -> Option<T> {
        if self.held.len() < self.size {
            self.held.push(value);
            return None;
        }
        let place = below(&mut self.rng, self.size as u64) as usize;
        Some(std::mem::replace(&mut self.held[place], value))
    }

    /// What is still held, in an order of its own.
    pub fn finish(mut self) -> Vec<T> {
        for last in (1..self.held.len()).rev() {
            self.held.swap(last, below(&mut self.rng, last as u64 + 1) as usize);
        }
        self.held
    }
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
