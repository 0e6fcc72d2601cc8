//! The order of examples: shuffled anew each epoch, a function of the seed and the epoch alone.
//!
//! A corpus that is streamed has no such order. A shuffle buffer draws from it instead, also by the seed and
//! the epoch.
//!
//! Fisher-Yates over ChaCha8, written here because the order must never change between versions of a crate: a
//! resumed run continues in it.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

/// The position of a run in its data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// Epoch, from 0.
    pub epoch: u64,
    /// Number of examples of this epoch's order that were used.
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

/// Shuffles a stream: each value that comes in replaces a random value of the buffer, which goes out (as
/// `IterableDataset.shuffle` does).
#[derive(Debug)]
pub struct ShuffleBuffer<T> {
    buffer: Vec<T>,
    size: usize,
    rng: ChaCha8Rng,
}

impl<T> ShuffleBuffer<T> {
    /// An empty buffer for `size` values (at least one) of `epoch`.
    pub fn new(size: usize, seed: u64, epoch: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(epoch.wrapping_add(1));
        Self { buffer: Vec::new(), size: size.max(1), rng }
    }

    /// Adds a value; returns another one once the buffer is full.
    pub fn push(&mut self, value: T) -> Option<T> {
        if self.buffer.len() < self.size {
            self.buffer.push(value);
            return None;
        }
        let index = below(&mut self.rng, self.size as u64) as usize;
        Some(std::mem::replace(&mut self.buffer[index], value))
    }

    /// The rest of the buffer, shuffled.
    pub fn finish(mut self) -> Vec<T> {
        for last in (1..self.buffer.len()).rev() {
            self.buffer.swap(last, below(&mut self.rng, last as u64 + 1) as usize);
        }
        self.buffer
    }
}

/// A uniform number below `n`. Rejects draws from the incomplete last interval, which would bias it.
fn below(rng: &mut ChaCha8Rng, n: u64) -> u64 {
    let limit = u64::MAX - u64::MAX % n;
    loop {
        let draw = rng.next_u64();
        if draw < limit {
            return draw % n;
        }
    }
}
