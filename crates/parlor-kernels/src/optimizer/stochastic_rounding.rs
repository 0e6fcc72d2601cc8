//! Stochastic rounding to bf16 (Zamirai et al., 2020): up or down at random, unbiased. An update smaller than half the
//! distance between two bf16 numbers then takes effect now and then instead of never.
//!
//! The random bits are a function of the seed and the element's index, so a repeated step gives the same result.

use half::bf16;

use crate::cpu::simd::dispatch;
use crate::parallel::ParallelExt as _;
use crate::random::random_u16;

/// Elements of a task.
const CHUNK: usize = 32 * 1024;

/// Rounds `from` into `to`. `first` is the index of its first element in the sequence of `seed`.
///
/// # Panics
/// When the lengths differ.
pub fn round_stochastically(from: &[f32], to: &mut [bf16], seed: u64, first: usize) {
    assert_eq!(from.len(), to.len(), "lengths of source and destination");
    let chunks = to.chunks_mut(CHUNK).zip(from.chunks(CHUNK)).enumerate();
    chunks.par_for_each(|(chunk, (to, from))| round_chunk(from, to, seed, first + chunk * CHUNK));
}

/// As [`round_stochastically`], on the calling thread.
pub(super) fn round_chunk(from: &[f32], to: &mut [bf16], seed: u64, first: usize) {
    dispatch(
        #[inline(always)]
        || {
            for (index, (to, from)) in (first as u32..).zip(to.iter_mut().zip(from)) {
                let bits = from.to_bits();
                // The carry out of the lower 16 bits rounds up, with the probability that they are of 2^16.
                let rounded = bits.wrapping_add(random_u16(seed, index));
                let bits = if from.is_nan() { bits | 0x0040_0000 } else { rounded };
                *to = bf16::from_bits((bits >> 16) as u16);
            }
        },
    );
}
