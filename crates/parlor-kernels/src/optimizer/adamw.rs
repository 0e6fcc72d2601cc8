//! AdamW (Loshchilov and Hutter, 2019) with f32 moments.
//!
//! Source: `torch.optim.AdamW`, in the same order of operations.

use super::parameter::{CHUNK, Parameter};
use crate::cpu::simd::dispatch;
use crate::parallel::ParallelExt as _;

/// Hyperparameters of one AdamW step.
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
    /// Number of this step, from 1, for the bias correction.
    pub step: u64,
}

/// One AdamW step over the moments `m` and `v`. `scale` multiplies the gradient first (clipping, and the division by
/// the loss weight).
///
/// ```
/// use parlor_kernels::optimizer::{AdamW, Parameter, adamw};
///
/// let (mut weight, gradient) = (vec![1.0; 4], vec![0.5; 4]);
/// let (mut m, mut v) = (vec![0.0; 4], vec![0.0; 4]);
/// let hyper = AdamW { lr: 0.01, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0, step: 1 };
/// adamw(Parameter::f32(&mut weight, &gradient), &mut m, &mut v, 1.0, &hyper);
/// // The first step has the size of the learning rate.
/// assert!((weight[0] - 0.99).abs() < 1e-6);
/// ```
pub fn adamw(parameter: Parameter<'_>, m: &mut [f32], v: &mut [f32], scale: f32, hyper: &AdamW) {
    let n = parameter.checked_len();
    assert!(m.len() == n && v.len() == n, "lengths of parameter and moments");
    let AdamW { lr, beta1, beta2, eps, weight_decay, step } = *hyper;
    let correction = |beta: f64| 1.0 - beta.powf(step as f64);
    let step_size = (lr / correction(beta1)) as f32;
    let root_correction = correction(beta2).sqrt() as f32;
    let (keep, eps) = ((1.0 - lr * weight_decay) as f32, eps as f32);
    let (towards_gradient, b2, a2) = ((1.0 - beta1) as f32, beta2 as f32, (1.0 - beta2) as f32);
    parameter.chunks().zip(m.chunks_mut(CHUNK)).zip(v.chunks_mut(CHUNK)).par_for_each(|((chunk, m), v)| {
        chunk.update(|p, g| {
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
