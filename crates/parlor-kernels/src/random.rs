//! Counter-based random numbers: each is a function of a seed and an index, so any thread computes the same, in any order,
//! and a backward pass recomputes what the forward drew. And the noise on embeddings that is drawn from them.

use crate::parallel::ParallelExt as _;

/// Elements of a task.
const CHUNK: usize = 16 * 1024;

/// Number `index` of the sequence of `seed`, uniform in [0, 1): the upper 24 bits of SplitMix64 (Steele et al., 2014).
#[inline(always)]
pub(crate) fn uniform(seed: u64, index: usize) -> f32 {
    let mut z = seed.wrapping_add((index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 40) as f32 / (1u32 << 24) as f32
}

/// 16 random bits: the finalizer of MurmurHash3 over a counter, in 32-bit arithmetic, which vectorises.
#[inline(always)]
pub(crate) fn random_u16(seed: u64, index: u32) -> u32 {
    let mut x = index.wrapping_mul(0x9E37_79B9) ^ (seed as u32) ^ ((seed >> 32) as u32).rotate_left(16);
    x = (x ^ (x >> 16)).wrapping_mul(0x85EB_CA6B);
    x = (x ^ (x >> 13)).wrapping_mul(0xC2B2_AE35);
    (x ^ (x >> 16)) & 0xFFFF
}

/// `x += uniform(-magnitude, magnitude)` for each element: NEFTune's noise (Jain et al., 2023), for which
/// `magnitude = alpha / sqrt(tokens * width)` of a sequence.
pub fn add_uniform_noise(x: &mut [f32], magnitude: f32, seed: u64) {
    x.chunks_mut(CHUNK).enumerate().par_for_each(|(chunk, x)| {
        for (i, x) in x.iter_mut().enumerate() {
            *x += magnitude * (2.0 * uniform(seed, chunk * CHUNK + i) - 1.0);
        }
    });
}
