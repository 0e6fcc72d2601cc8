//! Inverse frequencies of the rotary embedding, with HF's context stretching.
//!
//! Source: `modeling_rope_utils.py` in transformers (`default`, `linear`, `llama3`). Leaves out `yarn`,
//! `longrope` and `dynamic`, which `arch/` refuses by name.

use crate::config::{Rope, RopeScaling};

/// The tables of inverse frequencies that the layers of a decoder use, each once.
#[derive(Default)]
pub(crate) struct RopeTables {
    ropes: Vec<Rope>,
    /// `[head_dim / 2]` radians per position, one table for each rope.
    pub(crate) tables: Vec<Vec<f32>>,
}

impl RopeTables {
    /// The index of the table of `rope`, which is added when it is new.
    pub(crate) fn index_of(&mut self, rope: Rope, head_dim: usize) -> usize {
        if let Some(index) = self.ropes.iter().position(|known| *known == rope) {
            return index;
        }
        self.ropes.push(rope);
        self.tables.push(inverse_frequencies(rope, head_dim));
        self.tables.len() - 1
    }
}

/// `[head_dim / 2]` radians per position.
fn inverse_frequencies(rope: Rope, head_dim: usize) -> Vec<f32> {
    (0..head_dim / 2)
        .map(|i| {
            let frequency = rope.theta.powf(-2.0 * i as f64 / head_dim as f64);
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
