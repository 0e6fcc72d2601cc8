//! Parameter updates: AdamW and SGD here, each one pass over parameter, gradient and state; the others in files of their
//! own.
//!
//! Source: `torch.optim.AdamW` (Loshchilov and Hutter, 2019) and `torch.optim.SGD`, in the same order of
//! operations, state in f32. Rates and decays are f64 until they meet the numbers, as in Python: `1 - 0.999` in f32 is
//! wrong in the fifth digit.

mod adafactor;
mod adamw_8bit;
mod dynamic_map;
mod lion;
mod muon;
mod parameter;
mod stochastic;

use crate::parallel::threads::Parts as _;

pub use adafactor::{Adafactor, adafactor_matrix, adafactor_vector};
pub use adamw_8bit::{Moments8bit, adamw_8bit};
pub use dynamic_map::{BLOCK, DynamicMap, Sign};
pub use lion::{Lion, lion};
pub use muon::{AdjustRate, Momentum, Muon, MuonScratch, muon};
pub use parameter::Parameter;
pub use stochastic::round_stochastically;

use crate::cpu::simd::dispatch;

const CHUNK: usize = 32 * 1024;

/// What one AdamW step needs to know.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// Learning rate of this step.
    pub lr: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Number of this step, from 1.
    pub step: u64,
}

/// One AdamW step. `scale` multiplies the gradient first (clipping, and the division by the loss weight).
pub fn adamw(parameter: Parameter<'_>, m: &mut [f32], v: &mut [f32], scale: f32, hyper: &AdamW) {
    let n = parameter.checked_len();
    assert!(m.len() == n && v.len() == n, "lengths of parameter and moments");
    let AdamW { lr, beta1, beta2, eps, weight_decay, step } = *hyper;
    let correction = |beta: f64| 1.0 - beta.powf(step as f64);
    let step_size = (lr / correction(beta1)) as f32;
    let root_correction = correction(beta2).sqrt() as f32;
    let (keep, eps) = ((1.0 - lr * weight_decay) as f32, eps as f32);
    let (towards_gradient, b2, a2) = ((1.0 - beta1) as f32, beta2 as f32, (1.0 - beta2) as f32);
    parameter.pieces().zip(m.chunks_mut(CHUNK)).zip(v.chunks_mut(CHUNK)).share(|((piece, m), v)| {
        piece.update(|p, g| {
            dispatch(
                #[inline(always)]
                || {
                    for (((p, g), m), v) in p.iter_mut().zip(g).zip(m).zip(v) {
                        let g = g * scale;
                        *m += (g - *m) * towards_gradient;
                        *v = *v * b2 + g * g * a2;
                        let denominator = v.sqrt() / root_correction + eps;
                        *p = *p * keep - step_size * (*m / denominator);
                    }
                },
            );
        });
    });
}

/// What one SGD step needs to know.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sgd {
    /// Learning rate of this step.
    pub lr: f64,
    /// Momentum; the buffer starts at zero.
    pub momentum: f64,
    /// Coupled weight decay, added to the gradient.
    pub weight_decay: f64,
}

/// One SGD step; `buffer` holds the momentum when there is some. `scale` multiplies the gradient first.
pub fn sgd(parameter: Parameter<'_>, buffer: Option<&mut [f32]>, scale: f32, hyper: &Sgd) {
    let (lr, momentum, weight_decay) = (hyper.lr as f32, hyper.momentum as f32, hyper.weight_decay as f32);
    let direction = |p: f32, g: f32| g * scale + weight_decay * p;
    let n = parameter.checked_len();
    match buffer {
        None => parameter.pieces().share(|piece| {
            piece.update(|p, g| {
                for (p, g) in p.iter_mut().zip(g) {
                    *p -= lr * direction(*p, *g);
                }
            });
        }),
        Some(buffer) => {
            assert_eq!(buffer.len(), n, "lengths of momentum and parameter");
            parameter.pieces().zip(buffer.chunks_mut(CHUNK)).share(|(piece, b)| {
                piece.update(|p, g| {
                    for ((p, g), b) in p.iter_mut().zip(g).zip(b) {
                        *b = momentum * *b + direction(*p, *g);
                        *p -= lr * *b;
                    }
                });
            });
        }
    }
}
