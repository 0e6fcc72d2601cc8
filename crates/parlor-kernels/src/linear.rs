//! `y = x W^T + b` and its three backward products. `W` is `[outputs, inputs]`, as `nn.Linear` stores it.
//!
//! f32 weights go to the matrix product as they are; bf16 and f16 weights are widened panel by panel, so that a
//! widened copy of a whole matrix never exists. Few rows (decode) read each weight once, as dot products.
//! Leaves out: packed weights, native bf16 products, block-quantized weights.

use std::ops::Range;

use rayon::prelude::*;

use crate::matmul::{Mat, MatMut, On, matmul};
use crate::simd::{dispatch, dot, dot_with, widen};
use crate::{View, Write};

/// Sizes of a linear layer applied to a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Rows of the input: tokens.
    pub rows: usize,
    /// Columns of the input.
    pub inputs: usize,
    /// Columns of the output.
    pub outputs: usize,
}

/// At most this many rows are computed as dot products instead of a tiled product.
const FEW_ROWS: usize = 4;
/// Output rows of a narrow weight that are widened at a time.
const PANEL: usize = 256;

/// `y[rows, outputs] (+)= x[rows, inputs] W^T + bias`.
pub fn forward(x: &[f32], weight: View<'_>, bias: Option<&[f32]>, y: &mut [f32], write: Write, shape: Shape) {
    let Shape { rows, inputs, outputs } = shape;
    check(shape, x.len(), weight.len(), y.len());
    if rows <= FEW_ROWS {
        few_rows(x, weight, y, write, shape);
    } else {
        by_panels(weight, shape, |panel, range| {
            let columns = MatMut::new(&mut y[range.start..], rows, range.len(), outputs);
            let panel = Mat::new(panel, range.len(), inputs, inputs).transposed();
            matmul(columns, Mat::new(x, rows, inputs, inputs), panel, 1.0, write, On::Pool);
        });
    }
    if let Some(bias) = bias {
        assert_eq!(bias.len(), outputs, "length of the bias");
        y.par_chunks_mut(outputs.max(1)).for_each(|row| {
            for (y, b) in row.iter_mut().zip(bias) {
                *y += b;
            }
        });
    }
}

/// `dx (+)= dy W`: the gradient of the input.
pub fn backward_input(dy: &[f32], weight: View<'_>, dx: &mut [f32], write: Write, shape: Shape) {
    let Shape { rows, inputs, outputs } = shape;
    check(shape, dx.len(), weight.len(), dy.len());
    let mut write = write;
    by_panels(weight, shape, |panel, range| {
        let dy = Mat::new(&dy[range.start.min(dy.len())..], rows, range.len(), outputs);
        let panel = Mat::new(panel, range.len(), inputs, inputs);
        matmul(MatMut::new(dx, rows, inputs, inputs), dy, panel, 1.0, write, On::Pool);
        write = Write::Accumulate;
    });
}

/// `dW += dy^T x`: the gradient of the weight, f32 `[outputs, inputs]`.
pub fn backward_weight(x: &[f32], dy: &[f32], dw: &mut [f32], shape: Shape) {
    let Shape { rows, inputs, outputs } = shape;
    check(shape, x.len(), dw.len(), dy.len());
    matmul(
        MatMut::new(dw, outputs, inputs, inputs),
        Mat::new(dy, rows, outputs, outputs).transposed(),
        Mat::new(x, rows, inputs, inputs),
        1.0,
        Write::Accumulate,
        On::Pool,
    );
}

/// `db += sum of the rows of dy`: the gradient of the bias. Rows are added in order.
pub fn backward_bias(dy: &[f32], db: &mut [f32]) {
    dispatch(
        #[inline(always)]
        || {
            for row in dy.chunks_exact(db.len().max(1)) {
                for (db, dy) in db.iter_mut().zip(row) {
                    *db += dy;
                }
            }
        },
    );
}

fn check(shape: Shape, x: usize, weight: usize, y: usize) {
    let Shape { rows, inputs, outputs } = shape;
    assert!(
        x == rows * inputs && weight == inputs * outputs && y == rows * outputs,
        "linear {shape:?} over input {x}, weight {weight}, output {y}"
    );
}

/// Calls `product` with f32 panels of the weight's rows: the whole at once when it is f32 already.
fn by_panels(weight: View<'_>, shape: Shape, mut product: impl FnMut(&[f32], Range<usize>)) {
    if let View::F32(weight) = weight {
        return product(weight, 0..shape.outputs);
    }
    let mut panel = vec![0.0; PANEL.min(shape.outputs) * shape.inputs];
    for start in (0..shape.outputs).step_by(PANEL) {
        let range = start..(start + PANEL).min(shape.outputs);
        let panel = &mut panel[..range.len() * shape.inputs];
        let first = start * shape.inputs;
        panel.par_chunks_mut(shape.inputs.max(1) * 16).enumerate().for_each(|(chunk, out)| {
            let at = first + chunk * shape.inputs.max(1) * 16;
            weight.slice(at..at + out.len()).widen_into(out);
        });
        product(panel, range);
    }
}

/// One dot product per row and output; the outputs are split over the pool.
fn few_rows(x: &[f32], weight: View<'_>, y: &mut [f32], write: Write, shape: Shape) {
    let Shape { rows, inputs, outputs } = shape;
    if rows == 0 || outputs == 0 {
        return;
    }
    // Blocks large enough to pay for a task, small enough to balance.
    let block = (16 * 1024 / inputs.max(1)).clamp(8, 512);
    let mut transposed = vec![0.0; outputs * rows];
    transposed.par_chunks_mut(block * rows).enumerate().for_each(|(index, out)| {
        let first = index * block;
        dispatch(
            #[inline(always)]
            || {
                for (o, out) in out.chunks_exact_mut(rows).enumerate() {
                    let at = (first + o) * inputs..(first + o + 1) * inputs;
                    for (out, x) in out.iter_mut().zip(x.chunks_exact(inputs.max(1))) {
                        *out = match weight {
                            View::F32(w) => dot(x, &w[at.clone()]),
                            View::Bf16(w) => dot_with(x, &w[at.clone()], widen),
                            View::F16(w) => dot_with(
                                x,
                                &w[at.clone()],
                                #[inline(always)]
                                |w| w.to_f32(),
                            ),
                        };
                    }
                }
            },
        );
    });
    for (o, values) in transposed.chunks_exact(rows).enumerate() {
        for (row, value) in values.iter().enumerate() {
            let y = &mut y[row * outputs + o];
            *y = if write == Write::Replace { *value } else { *y + *value };
        }
    }
}
