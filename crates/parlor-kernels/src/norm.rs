//! RMS norm (Zhang and Sennrich, 2019) and layer norm (Ba et al., 2016), forward and backward, row by row.
//!
//! The forward saves one or two statistics per row; the backward recomputes the normalised row from the input.

use crate::cpu::simd::{Element, dispatch, dot, sum_of};
use crate::memory::ValuesMut;
use crate::parallel::ParallelExt as _;

/// Rows of a task: fixed, so that weight gradients are summed in the same order on any machine.
const ROWS: usize = 64;

/// `y = x / sqrt(mean(x^2) + eps) * weight`, row by row; `inverse_rms[row]` is saved for the backward.
pub fn rms_forward<'a>(
    x: &[f32],
    weight: &[f32],
    eps: f32,
    y: impl Into<ValuesMut<'a>>,
    inverse_rms: &mut [f32],
) {
    match y.into() {
        ValuesMut::F32(y) => rms_forward_into(x, weight, eps, y, inverse_rms),
        ValuesMut::Bf16(y) => rms_forward_into(x, weight, eps, y, inverse_rms),
    }
}

fn rms_forward_into<T: Element>(x: &[f32], weight: &[f32], eps: f32, y: &mut [T], inverse_rms: &mut [f32]) {
    let width = weight.len();
    check(x.len(), y.len(), inverse_rms.len(), width);
    y.chunks_mut(ROWS * width).zip(x.chunks(ROWS * width)).zip(inverse_rms.chunks_mut(ROWS)).par_for_each(
        |((y, x), inverse)| {
            dispatch(
                #[inline(always)]
                || {
                    let rows = y.chunks_exact_mut(width).zip(x.chunks_exact(width)).zip(inverse);
                    for ((y, x), inverse) in rows {
                        let mean_square = dot(x, x) / width as f32;
                        *inverse = 1.0 / (mean_square + eps).sqrt();
                        for ((y, x), w) in y.iter_mut().zip(x).zip(weight) {
                            *y = T::narrow(x * *inverse * w);
                        }
                    }
                },
            );
        },
    );
}

/// `dx += ...` and, if given, `dweight += ...`, from `dy`.
pub fn rms_backward(
    x: &[f32],
    weight: &[f32],
    inverse_rms: &[f32],
    dy: &[f32],
    dx: &mut [f32],
    dweight: Option<&mut [f32]>,
) {
    let width = weight.len();
    check(x.len(), dx.len(), inverse_rms.len(), width);
    check(dy.len(), dx.len(), inverse_rms.len(), width);
    let partials: Vec<Vec<f32>> = dx
        .chunks_mut(ROWS * width)
        .zip(x.chunks(ROWS * width))
        .zip(dy.chunks(ROWS * width))
        .zip(inverse_rms.chunks(ROWS))
        .par_map(|(((dx, x), dy), inverse)| {
            let mut partial = vec![0.0; width];
            dispatch(
                #[inline(always)]
                || {
                    let rows = dx.chunks_exact_mut(width).zip(x.chunks_exact(width));
                    for (((dx, x), dy), &r) in rows.zip(dy.chunks_exact(width)).zip(inverse) {
                        // With n = x r: dL/dx = r (g - n mean(g n)), g = dy w.
                        for (p, (x, dy)) in partial.iter_mut().zip(x.iter().zip(dy)) {
                            *p += dy * x * r;
                        }
                        let mut lanes = 0.0;
                        let mut chunk = [0.0f32; 64];
                        for ((x, dy), w) in x.chunks(64).zip(dy.chunks(64)).zip(weight.chunks(64)) {
                            for ((c, dy), w) in chunk.iter_mut().zip(dy).zip(w) {
                                *c = dy * w;
                            }
                            lanes += dot(&chunk[..x.len()], x);
                        }
                        let mean = lanes * r * r / width as f32;
                        for (((dx, x), dy), w) in dx.iter_mut().zip(x).zip(dy).zip(weight) {
                            *dx += r * (dy * w - x * mean);
                        }
                    }
                },
            );
            partial
        });
    if let Some(dweight) = dweight {
        add_partials(dweight, &partials);
    }
}

/// Statistics of a row that layer norm saves for its backward.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RowMoments {
    /// Mean of the row.
    pub mean: f32,
    /// `1 / sqrt(variance + eps)` (variance over `n`, not `n - 1`).
    pub inverse_std: f32,
}

/// `y = (x - mean) / sqrt(var + eps) * weight + bias`, row by row; `parameters` are weight and bias.
pub fn layer_forward<'a>(
    x: &[f32],
    parameters: (&[f32], &[f32]),
    eps: f32,
    y: impl Into<ValuesMut<'a>>,
    moments: &mut [RowMoments],
) {
    match y.into() {
        ValuesMut::F32(y) => layer_forward_into(x, parameters, eps, y, moments),
        ValuesMut::Bf16(y) => layer_forward_into(x, parameters, eps, y, moments),
    }
}

fn layer_forward_into<T: Element>(
    x: &[f32],
    (weight, bias): (&[f32], &[f32]),
    eps: f32,
    y: &mut [T],
    moments: &mut [RowMoments],
) {
    let width = weight.len();
    check(x.len(), y.len(), moments.len(), width);
    y.chunks_mut(ROWS * width).zip(x.chunks(ROWS * width)).zip(moments.chunks_mut(ROWS)).par_for_each(
        |((y, x), moments)| {
            dispatch(
                #[inline(always)]
                || {
                    let rows = y.chunks_exact_mut(width).zip(x.chunks_exact(width)).zip(moments);
                    for ((y, x), moments) in rows {
                        let mean = sum_of(
                            x,
                            #[inline(always)]
                            |x| x,
                        ) / width as f32;
                        let variance = sum_of(
                            x,
                            #[inline(always)]
                            |x| (x - mean) * (x - mean),
                        ) / width as f32;
                        let inverse_std = 1.0 / (variance + eps).sqrt();
                        *moments = RowMoments { mean, inverse_std };
                        for (((y, x), w), b) in y.iter_mut().zip(x).zip(weight).zip(bias) {
                            *y = T::narrow((x - mean) * inverse_std * w + b);
                        }
                    }
                },
            );
        },
    );
}

/// Gradients of a layer norm's parameters.
pub struct LayerNormGradients<'a> {
    /// Of the scale.
    pub weight: Option<&'a mut [f32]>,
    /// Of the shift.
    pub bias: Option<&'a mut [f32]>,
}

/// `dx += ...` and the gradients of the parameters, if given, from `dy`.
pub fn layer_backward(
    x: &[f32],
    weight: &[f32],
    moments: &[RowMoments],
    dy: &[f32],
    dx: &mut [f32],
    gradients: LayerNormGradients<'_>,
) {
    let width = weight.len();
    check(x.len(), dx.len(), moments.len(), width);
    check(dy.len(), dx.len(), moments.len(), width);
    let partials: Vec<(Vec<f32>, Vec<f32>)> = dx
        .chunks_mut(ROWS * width)
        .zip(x.chunks(ROWS * width))
        .zip(dy.chunks(ROWS * width))
        .zip(moments.chunks(ROWS))
        .par_map(|(((dx, x), dy), moments)| {
            let (mut dweight, mut dbias) = (vec![0.0; width], vec![0.0; width]);
            dispatch(
                #[inline(always)]
                || {
                    let rows = dx.chunks_exact_mut(width).zip(x.chunks_exact(width));
                    for (((dx, x), dy), m) in rows.zip(dy.chunks_exact(width)).zip(moments) {
                        // With n = (x - mean) s: dL/dx = s (g - mean(g) - n mean(g n)), g = dy w.
                        let (mut sum_g, mut sum_gn) = (0.0, 0.0);
                        for i in 0..width {
                            let n = (x[i] - m.mean) * m.inverse_std;
                            let g = dy[i] * weight[i];
                            dweight[i] += dy[i] * n;
                            dbias[i] += dy[i];
                            sum_g += g;
                            sum_gn += g * n;
                        }
                        let (mean_g, mean_gn) = (sum_g / width as f32, sum_gn / width as f32);
                        for i in 0..width {
                            let n = (x[i] - m.mean) * m.inverse_std;
                            dx[i] += m.inverse_std * (dy[i] * weight[i] - mean_g - n * mean_gn);
                        }
                    }
                },
            );
            (dweight, dbias)
        });
    let (weights, biases): (Vec<_>, Vec<_>) = partials.into_iter().unzip();
    if let Some(weight) = gradients.weight {
        add_partials(weight, &weights);
    }
    if let Some(bias) = gradients.bias {
        add_partials(bias, &biases);
    }
}

fn add_partials(total: &mut [f32], partials: &[Vec<f32>]) {
    for partial in partials {
        for (total, partial) in total.iter_mut().zip(partial) {
            *total += partial;
        }
    }
}

fn check(x: usize, y: usize, rows: usize, width: usize) {
    assert!(width > 0 && x == rows * width && y == x, "norm of {x} into {y}, {rows} rows of {width}");
}
