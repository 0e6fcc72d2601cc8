//! Lion (Chen et al., 2023): an update by the sign of an interpolation between momentum and gradient; one moment.
//!
//! Source: `bitsandbytes.optim.Lion` and `lion-pytorch`, in the same order of operations.

use super::parameter::{CHUNK, Parameter};
use crate::cpu::simd::dispatch;
use crate::parallel::ParallelExt as _;

/// Hyperparameters of one Lion step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lion {
    /// Learning rate of this step.
    pub lr: f64,
    /// Weight of the momentum in the direction of this step.
    pub beta1: f64,
    /// Decay of the momentum.
    pub beta2: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
}

/// One Lion step. `scale` multiplies the gradient first.
pub fn lion(parameter: Parameter<'_>, momentum: &mut [f32], scale: f32, hyper: &Lion) {
    assert_eq!(momentum.len(), parameter.checked_len(), "lengths of momentum and parameter");
    let Lion { lr, beta1, beta2, weight_decay } = *hyper;
    let (keep, lr) = ((1.0 - lr * weight_decay) as f32, lr as f32);
    let (b1, a1) = (beta1 as f32, (1.0 - beta1) as f32);
    let (b2, a2) = (beta2 as f32, (1.0 - beta2) as f32);
    parameter.chunks().zip(momentum.chunks_mut(CHUNK)).par_for_each(|(chunk, m)| {
        chunk.update(|p, g| {
            dispatch(
                #[inline(always)]
                || {
                    for ((p, g), m) in p.iter_mut().zip(g).zip(m) {
                        let g = g * scale;
                        let direction = *m * b1 + g * a1;
                        // `f32::signum(0.0)` is 1; the sign of a zero direction is 0.
                        let sign = if direction == 0.0 { 0.0 } else { direction.signum() };
                        *p = *p * keep - lr * sign;
                        *m = *m * b2 + g * a2;
                    }
                },
            );
        });
    });
}
