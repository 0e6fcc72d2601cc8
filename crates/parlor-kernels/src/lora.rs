//! The operations of low-rank adapters other than matrix products: dropout of the input, and for DoRA the row norms of an
//! adapted weight.
//!
//! Sources: LoRA (Hu et al., 2021); DoRA (Liu et al., 2024), section 4.3. A dropout mask is a function of seed and index
//! alone, so the backward pass recomputes it.

use crate::View;
use crate::parallel::ParallelExt as _;
use crate::random::uniform;

/// Elements of a task.
const CHUNK: usize = 16 * 1024;

/// A dropout mask.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// Probability that an element is dropped, in [0, 1).
    pub probability: f32,
    /// Seed of the mask.
    pub seed: u64,
}

impl Dropout {
    /// The mask of element `index`: 0, or `1 / (1 - probability)` if it is kept.
    #[inline(always)]
    fn factor(self, index: usize) -> f32 {
        if uniform(self.seed, index) < self.probability { 0.0 } else { 1.0 / (1.0 - self.probability) }
    }

    /// `out = mask * x`.
    pub fn apply(self, x: &[f32], out: &mut [f32]) {
        out.chunks_mut(CHUNK).zip(x.chunks(CHUNK)).enumerate().par_for_each(|(chunk, (out, x))| {
            for (i, (out, x)) in out.iter_mut().zip(x).enumerate() {
                *out = x * self.factor(chunk * CHUNK + i);
            }
        });
    }

    /// `dx += mask * d`: the backward of [`Self::apply`].
    pub fn apply_backward(self, d: &[f32], dx: &mut [f32]) {
        dx.chunks_mut(CHUNK).zip(d.chunks(CHUNK)).enumerate().par_for_each(|(chunk, (dx, d))| {
            for (i, (dx, d)) in dx.iter_mut().zip(d).enumerate() {
                *dx += d * self.factor(chunk * CHUNK + i);
            }
        });
    }
}

/// Euclidean norm of each row of `W + scale B A`, for `W` `[out, in]`, `A` `[r, in]`, `B` `[out, r]`; `r` may be 0.
pub fn row_norms(weight: View<'_>, a: &[f32], b: &[f32], scale: f32, norms: &mut [f32]) {
    let outputs = norms.len().max(1);
    let (rank, inputs) = (b.len() / outputs, weight.len() / outputs);
    norms.iter_mut().enumerate().par_for_each(|(row, norm)| {
        let b = &b[row * rank..(row + 1) * rank];
        let mut values = vec![0.0; inputs];
        weight.slice(row * inputs..(row + 1) * inputs).widen_into(&mut values);
        for (b, a) in b.iter().zip(a.chunks_exact(inputs)) {
            let factor = scale * b;
            for (value, a) in values.iter_mut().zip(a) {
                *value += factor * a;
            }
        }
        *norm = values.iter().map(|&value| f64::from(value) * f64::from(value)).sum::<f64>().sqrt() as f32;
    });
}

/// `x *= factor`.
pub fn scale(x: &mut [f32], factor: f32) {
    for value in x {
        *value *= factor;
    }
}

/// Multiplies column `j` of `x` by `factors[j]`.
pub fn scale_columns(x: &mut [f32], factors: &[f32]) {
    let width = factors.len().max(1);
    x.chunks_mut(width).par_for_each(|row| {
        for (value, factor) in row.iter_mut().zip(factors) {
            *value *= factor;
        }
    });
}

/// `out[j] += sum over rows of x[row, j] * y[row, j]`, rows in order.
pub fn column_products(x: &[f32], y: &[f32], out: &mut [f32]) {
    let width = out.len().max(1);
    for (x, y) in x.chunks_exact(width).zip(y.chunks_exact(width)) {
        for ((out, x), y) in out.iter_mut().zip(x).zip(y) {
            *out += x * y;
        }
    }
}
