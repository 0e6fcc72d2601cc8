//! Stochastic gradient descent, with and without momentum.
//!
//! Source: `torch.optim.SGD`, in the same order of operations. Leaves out: dampening and Nesterov momentum.

use super::parameter::{CHUNK, Parameter};
use crate::parallel::ParallelExt as _;

/// Hyperparameters of one SGD step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sgd {
    /// Learning rate of this step.
    pub lr: f64,
    /// Momentum; the buffer starts at zero.
    pub momentum: f64,
    /// Coupled weight decay, added to the gradient.
    pub weight_decay: f64,
}

/// One SGD step, with momentum if there is a `buffer`. `scale` multiplies the gradient first.
pub fn sgd(parameter: Parameter<'_>, buffer: Option<&mut [f32]>, scale: f32, hyper: &Sgd) {
    let (lr, momentum, weight_decay) = (hyper.lr as f32, hyper.momentum as f32, hyper.weight_decay as f32);
    let direction = |p: f32, g: f32| g * scale + weight_decay * p;
    let n = parameter.checked_len();
    match buffer {
        None => parameter.chunks().par_for_each(|chunk| {
            chunk.update(|p, g| {
                for (p, g) in p.iter_mut().zip(g) {
                    *p -= lr * direction(*p, *g);
                }
            });
        }),
        Some(buffer) => {
            assert_eq!(buffer.len(), n, "lengths of momentum and parameter");
            parameter.chunks().zip(buffer.chunks_mut(CHUNK)).par_for_each(|(chunk, b)| {
                chunk.update(|p, g| {
                    for ((p, g), b) in p.iter_mut().zip(g).zip(b) {
                        *b = momentum * *b + direction(*p, *g);
                        *p -= lr * *b;
                    }
                });
            });
        }
    }
}
