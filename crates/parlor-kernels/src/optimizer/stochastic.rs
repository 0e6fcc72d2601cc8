//! Rounding to bf16 up or down by chance, with the probabilities that make it right on average: an update that is smaller than half
//! of the distance between two bf16 numbers is then made now and then instead of never (Zamirai et al., 2020).
//!
//! The chance is a function of a seed and an element's place, so that a step that is made again is the same.

use half::bf16;

use super::CHUNK;
use crate::cpu::simd::dispatch;
use crate::parallel::threads::Parts as _;

/// Rounds `from` into `to`. Its elements are those from the `first` on of what `seed` is for.
///
/// # Panics
/// When there are not as many.
pub fn round_stochastically(from: &[f32], to: &mut [bf16], seed: u64, first: usize) {
    assert_eq!(from.len(), to.len(), "as many numbers as there is room for");
    let parts = to.chunks_mut(CHUNK).zip(from.chunks(CHUNK)).enumerate();
    parts.share(|(part, (to, from))| round_part(from, to, seed, first + part * CHUNK));
}

/// As [`round_stochastically`], by the calling thread.
pub(super) fn round_part(from: &[f32], to: &mut [bf16], seed: u64, first: usize) {
    dispatch(
        #[inline(always)]
        || {
            for (index, (to, from)) in (first as u32..).zip(to.iter_mut().zip(from)) {
                let bits = from.to_bits();
                let moved = bits.wrapping_add(chance(seed, index));
                // What is no number stays that.
                let bits = if from.is_nan() { bits | 0x0040_0000 } else { moved };
                *to = bf16::from_bits((bits >> 16) as u16);
            }
        },
    );
}

/// 16 bits by chance: the last mixing steps of MurmurHash3 over a counter.
#[inline(always)]
fn chance(seed: u64, index: u32) -> u32 {
    let mut x = index.wrapping_mul(0x9E37_79B9) ^ (seed as u32) ^ ((seed >> 32) as u32).rotate_left(16);
    x = (x ^ (x >> 16)).wrapping_mul(0x85EB_CA6B);
    x = (x ^ (x >> 13)).wrapping_mul(0xC2B2_AE35);
    (x ^ (x >> 16)) & 0xFFFF
}
