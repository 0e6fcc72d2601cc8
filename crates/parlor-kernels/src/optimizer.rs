//! Parameter updates, each one pass over parameter, gradient and state.
//!
//! Source: `torch.optim.AdamW` (Loshchilov and Hutter, 2019) and `torch.optim.SGD`, in the same order of
//! operations, state in f32.

use rayon::prelude::*;

use crate::simd::dispatch;

const CHUNK: usize = 32 * 1024;

/// What one AdamW step needs to know.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// Learning rate of this step.
    pub lr: f32,
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub eps: f32,
    /// Decoupled weight decay.
    pub weight_decay: f32,
    /// Number of this step, from 1.
    pub step: u64,
}

/// One AdamW step. `scale` multiplies the gradient first (clipping, and the division by the loss weight).
pub fn adamw(
    parameter: &mut [f32],
    gradient: &[f32],
    m: &mut [f32],
    v: &mut [f32],
    scale: f32,
    hyper: &AdamW,
) {
    let n = parameter.len();
    assert!(
        gradient.len() == n && m.len() == n && v.len() == n,
        "lengths of parameter, gradient and moments"
    );
    let AdamW { lr, beta1, beta2, eps, weight_decay, step } = *hyper;
    // Bias corrections in f64, as torch computes them in Python.
    let correction = |beta: f32| 1.0 - f64::from(beta).powf(step as f64);
    let step_size = (f64::from(lr) / correction(beta1)) as f32;
    let root_correction = correction(beta2).sqrt() as f32;
    let keep = 1.0 - lr * weight_decay;
    parameter
        .par_chunks_mut(CHUNK)
        .zip(gradient.par_chunks(CHUNK))
        .zip(m.par_chunks_mut(CHUNK))
        .zip(v.par_chunks_mut(CHUNK))
        .for_each(|(((p, g), m), v)| {
            dispatch(
                #[inline(always)]
                || {
                    for (((p, g), m), v) in p.iter_mut().zip(g).zip(m).zip(v) {
                        let g = g * scale;
                        *m += (g - *m) * (1.0 - beta1);
                        *v = *v * beta2 + g * g * (1.0 - beta2);
                        let denominator = v.sqrt() / root_correction + eps;
                        *p = *p * keep - step_size * (*m / denominator);
                    }
                },
            );
        });
}

/// What one SGD step needs to know.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sgd {
    /// Learning rate of this step.
    pub lr: f32,
    /// Momentum; the buffer starts at zero.
    pub momentum: f32,
    /// Coupled weight decay, added to the gradient.
    pub weight_decay: f32,
}

/// One SGD step; `buffer` holds the momentum when there is some. `scale` multiplies the gradient first.
pub fn sgd(parameter: &mut [f32], gradient: &[f32], buffer: Option<&mut [f32]>, scale: f32, hyper: &Sgd) {
    assert_eq!(gradient.len(), parameter.len(), "lengths of parameter and gradient");
    let Sgd { lr, momentum, weight_decay } = *hyper;
    let direction = |p: f32, g: f32| g * scale + weight_decay * p;
    match buffer {
        None => parameter.par_chunks_mut(CHUNK).zip(gradient.par_chunks(CHUNK)).for_each(|(p, g)| {
            for (p, g) in p.iter_mut().zip(g) {
                *p -= lr * direction(*p, *g);
            }
        }),
        Some(buffer) => {
            assert_eq!(buffer.len(), parameter.len(), "lengths of parameter and momentum");
            let parts = parameter.par_chunks_mut(CHUNK).zip(gradient.par_chunks(CHUNK));
            parts.zip(buffer.par_chunks_mut(CHUNK)).for_each(|((p, g), b)| {
                for ((p, g), b) in p.iter_mut().zip(g).zip(b) {
                    *b = momentum * *b + direction(*p, *g);
                    *p -= lr * *b;
                }
            });
        }
    }
}
