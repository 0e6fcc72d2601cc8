//! Random numbers by their index, the same whichever thread asks, and the noise on embeddings made of them.

use crate::parallel::threads::Parts as _;

/// Elements per task.
const CHUNK: usize = 16 * 1024;

/// Number `index` of the sequence that `seed` names, uniform in [0, 1): the upper 24 bits of a mixed counter (Steele et
/// al., 2014: SplitMix64).
#[inline(always)]
pub(crate) fn uniform(seed: u64, index: usize) -> f32 {
    let mut z = seed.wrapping_add((index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 40) as f32 / (1u32 << 24) as f32
}

/// `x += uniform(-magnitude, magnitude)` for each element: NEFTune's noise (Jain et al., 2023), of which
/// `magnitude = alpha / sqrt(tokens * width)` for a sequence.
pub fn add_uniform(x: &mut [f32], magnitude: f32, seed: u64) {
    x.chunks_mut(CHUNK).enumerate().share(|(chunk, x)| {
        for (i, x) in x.iter_mut().enumerate() {
            *x += magnitude * (2.0 * uniform(seed, chunk * CHUNK + i) - 1.0);
        }
    });
}
