//! Inverse frequencies of the rotary embedding, with HF's context stretching.
//!
//! Source: `modeling_rope_utils.py` in transformers (`default`, `linear`, `llama3`). Leaves out `yarn`,
//! `longrope` and `dynamic`, which `arch/` refuses by name.

use crate::decoder_config::{DecoderConfig, Positions, RopeScaling};

/// `[head_dim / 2]` radians per position; empty without rotary positions.
pub(crate) fn inverse_frequencies(config: &DecoderConfig) -> Vec<f32> {
    let Positions::Rope(rope) = config.positions else { return Vec::new() };
    (0..config.head_dim / 2)
        .map(|i| {
            let frequency = rope.theta.powf(-2.0 * i as f64 / config.head_dim as f64);
            scaled(frequency, rope.scaling) as f32
        })
        .collect()
}

/// A frequency in radians per position after stretching.
pub(crate) fn scaled(frequency: f64, scaling: RopeScaling) -> f64 {
    match scaling {
        RopeScaling::Default => frequency,
        RopeScaling::Linear { factor } => frequency / factor,
        RopeScaling::ByWavelength {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_max_position_embeddings: original,
        } => {
            let wavelength = std::f64::consts::TAU / frequency;
            if wavelength > original / low_freq_factor {
                frequency / factor
            } else if wavelength < original / high_freq_factor {
                frequency
            } else {
                let ramp = (original / wavelength - low_freq_factor) / (high_freq_factor - low_freq_factor);
                (1.0 - ramp) * frequency / factor + ramp * frequency
            }
        }
    }
}
