//! Initial values of new parameters: normal with `initializer_range` for matrices, ones and zeros elsewhere,
//! as HF's `_init_weights`. Projections that write to the residual stream are scaled by `1/sqrt(2 layers)`
//! (GPT-2).
//!
//! Values come from ChaCha8 and Box-Muller in f64, written here because they must never change between
//! versions of a crate: a seed names a model.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::parameters::{Kind, ParameterSpec, Role, Site};
use crate::config::DecoderConfig;

/// Values for the parameter `spec`, drawn from stream `stream` of `seed`.
pub(crate) fn initial_values(
    spec: &ParameterSpec,
    config: &DecoderConfig,
    seed: u64,
    stream: u64,
) -> Vec<f32> {
    match spec.kind {
        Kind::NormWeight => vec![1.0; spec.len()],
        Kind::Bias | Kind::LowRank => vec![0.0; spec.len()],
        Kind::Matrix => {
            let residual = matches!(spec.role, Role::Block { site: Site::OProj | Site::DownProj, .. });
            let mut scale = f64::from(config.initializer_range);
            if residual {
                scale /= (2.0 * config.num_hidden_layers() as f64).sqrt();
            }
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream(stream);
            let mut values = Vec::with_capacity(spec.len() + 1);
            while values.len() < spec.len() {
                let (a, b) = normal_pair(&mut rng);
                values.push((a * scale) as f32);
                values.push((b * scale) as f32);
            }
            values.truncate(spec.len());
            values
        }
    }
}

/// Two independent standard normal numbers (Box and Muller, 1958).
pub(crate) fn normal_pair(rng: &mut ChaCha8Rng) -> (f64, f64) {
    // 53 random bits, shifted by half a unit so that the logarithm never sees zero.
    let mut uniform = || ((rng.next_u64() >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    let radius = (-2.0 * uniform().ln()).sqrt();
    let (sin, cos) = (std::f64::consts::TAU * uniform()).sin_cos();
    (radius * cos, radius * sin)
}
