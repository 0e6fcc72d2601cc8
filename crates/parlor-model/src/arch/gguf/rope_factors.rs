//! Recovers a `llama3` scaling from the frequency factors of a GGUF file.
//!
//! llama.cpp's converter turns a `llama3` scaling into one factor per frequency and drops the settings. The
//! published ones have the frequency factors 1 and 4 and an original context that is a power of two;
//! whichever of those gives the same factors is the scaling. Leaves out: factors of any other origin, which
//! are refused.

use crate::config::RopeScaling;
use crate::decoder::scaled;

/// Factors are f32 and were computed in f32 from a frequency with a rounded exponent: 1e-7 times a few
/// operations.
const TOLERANCE: f64 = 1e-5;

/// The scaling that divides the frequencies of `theta` and `head_dim` by `factors`.
pub(super) fn scaling(factors: &[f32], theta: f64, head_dim: usize) -> Option<RopeScaling> {
    let factor = f64::from(factors.iter().copied().fold(1.0, f32::max));
    let originals = std::iter::once(13).chain(4..=24).map(|power| f64::from(1u32 << power));
    let candidates = originals.map(|original_max_position_embeddings| RopeScaling::ByWavelength {
        factor,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings,
    });
    let fits = |scaling: &RopeScaling| {
        factors.iter().enumerate().all(|(index, &found)| {
            let frequency = theta.powf(-2.0 * index as f64 / head_dim as f64);
            let expected = frequency / scaled(frequency, *scaling);
            (f64::from(found) - expected).abs() <= TOLERANCE * expected
        })
    };
    candidates.into_iter().find(fits)
}
