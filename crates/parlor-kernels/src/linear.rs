//! `y = x W^T + b` and its three backward products. `W` is `[outputs, inputs]`, as `nn.Linear` stores it.
//!
//! f32 products of f32 weights are those of the `gemm` crate, which chooses its instructions itself, unless less than the
//! machine has is asked for; bf16 products, and products of narrower weights, pack
//! and widen their operands a panel at a time, so that a widened copy of a whole matrix never exists. Few rows
//! (decode) read each weight once, as dot products in f32. Packed weights meet inputs that are rounded to 8 bits, forward only
//! (see [`packed`]).
//! Leaves out: weights that stay packed between calls.

use crate::few;
use crate::isa::Isa;
use crate::matmul::{Mat, MatMut, On, matmul};
use crate::packed;
use crate::product::{Along, Operand, Path, Size, product};
use crate::simd::dispatch;
use crate::threads::Parts as _;
use crate::{Arithmetic, View, Write};

/// Rows that get their bias in one task.
const BIAS_ROWS: usize = 32;

/// Sizes of a linear layer applied to a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Rows of the input: tokens.
    pub rows: usize,
    /// Columns of the input.
    pub inputs: usize,
    /// Columns of the output.
    pub outputs: usize,
    /// Precision of the products.
    pub arithmetic: Arithmetic,
}

/// One of the layers of a [`forward_all`].
pub struct Layer<'a> {
    /// `[outputs, inputs]`.
    pub weight: View<'a>,
    /// `[outputs]`.
    pub bias: Option<&'a [f32]>,
    /// `[rows, outputs]`.
    pub y: &'a mut [f32],
    /// What becomes of what `y` holds.
    pub write: Write,
}

/// `y[rows, outputs] (+)= x[rows, inputs] W^T + bias`.
pub fn forward(x: &[f32], weight: View<'_>, bias: Option<&[f32]>, y: &mut [f32], write: Write, shape: Shape) {
    check(shape, x.len(), weight.len(), y.len());
    forward_all(x, shape, &mut [Layer { weight, bias, y, write }]);
}

/// As [`forward`], of several layers that share their input, which is prepared once for all of them; `shape.outputs` are
/// those of all together.
pub fn forward_all(x: &[f32], shape: Shape, layers: &mut [Layer<'_>]) {
    let Shape { rows, inputs, arithmetic, .. } = shape;
    let outputs: usize = layers.iter().map(|layer| layer.weight.len() / inputs.max(1)).sum();
    assert!(x.len() == rows * inputs && (outputs == shape.outputs || inputs == 0), "layers of {shape:?}");
    if rows == 0 || inputs == 0 {
        return;
    }
    let whole = |layer: &Layer<'_>| {
        if let View::Packed(view) = layer.weight { view.whole().is_some() } else { false }
    };
    if layers.iter().all(whole) {
        let outputs = layers.iter_mut().filter_map(|Layer { weight, bias, y, write }| match weight {
            View::Packed(view) => {
                Some(packed::Output { weight: view.whole()?, y, bias: *bias, write: *write })
            }
            _ => None,
        });
        let mut outputs: Vec<_> = outputs.collect();
        return packed::forward_best(x, &mut outputs);
    }
    for Layer { weight, bias, y, write } in layers {
        let shape = Shape { rows, inputs, outputs: weight.len() / inputs, arithmetic };
        forward_plain(x, *weight, y, *write, shape);
        if let Some(bias) = bias {
            add_bias(bias, y);
        }
    }
}

/// The product alone, of weights that are in no order of their own.
fn forward_plain(x: &[f32], weight: View<'_>, y: &mut [f32], write: Write, shape: Shape) {
    let Shape { rows, inputs, outputs, arithmetic } = shape;
    if rows <= few::ROWS && arithmetic == Arithmetic::F32 {
        few::forward(x, weight, y, write, shape);
    } else if let (true, View::F32(weight)) = (by_gemm(arithmetic), weight) {
        let (x, weight) = (Mat::new(x, rows, inputs, inputs), Mat::new(weight, outputs, inputs, inputs));
        matmul(MatMut::new(y, rows, outputs, outputs), x, weight.transposed(), 1.0, write, On::Pool);
    } else {
        let operands = (stored(View::F32(x), inputs, Along::Depth), stored(weight, inputs, Along::Depth));
        let size = Size { rows, columns: outputs, depth: inputs };
        product(Path::best(arithmetic), y, operands, size, write);
    }
}

/// Adds `bias` to every row of `y`.
fn add_bias(bias: &[f32], y: &mut [f32]) {
    let width = bias.len().max(1);
    assert!(y.len().is_multiple_of(width), "length of the bias");
    y.chunks_mut(BIAS_ROWS * width).share(|rows| {
        for row in rows.chunks_exact_mut(width) {
            for (y, b) in row.iter_mut().zip(bias) {
                *y += b;
            }
        }
    });
}

/// `dx (+)= dy W`: the gradient of the input.
pub fn backward_input(dy: &[f32], weight: View<'_>, dx: &mut [f32], write: Write, shape: Shape) {
    let Shape { rows, inputs, outputs, arithmetic } = shape;
    check(shape, dx.len(), weight.len(), dy.len());
    if let (true, View::F32(weight)) = (by_gemm(arithmetic), weight) {
        let (dy, weight) = (Mat::new(dy, rows, outputs, outputs), Mat::new(weight, outputs, inputs, inputs));
        return matmul(MatMut::new(dx, rows, inputs, inputs), dy, weight, 1.0, write, On::Pool);
    }
    let operands = (stored(View::F32(dy), outputs, Along::Depth), stored(weight, inputs, Along::Lanes));
    let size = Size { rows, columns: inputs, depth: outputs };
    product(Path::best(arithmetic), dx, operands, size, write);
}

/// `dW += dy^T x`: the gradient of the weight, f32 `[outputs, inputs]`.
pub fn backward_weight(x: &[f32], dy: &[f32], dw: &mut [f32], shape: Shape) {
    let Shape { rows, inputs, outputs, arithmetic } = shape;
    check(shape, x.len(), dw.len(), dy.len());
    if by_gemm(arithmetic) {
        let (dy, x) = (Mat::new(dy, rows, outputs, outputs), Mat::new(x, rows, inputs, inputs));
        let dw = MatMut::new(dw, outputs, inputs, inputs);
        return matmul(dw, dy.transposed(), x, 1.0, Write::Accumulate, On::Pool);
    }
    let (x, dy) = (View::F32(x), View::F32(dy));
    let operands = (stored(dy, outputs, Along::Lanes), stored(x, inputs, Along::Lanes));
    let size = Size { rows: outputs, columns: inputs, depth: rows };
    product(Path::best(arithmetic), dw, operands, size, Write::Accumulate);
}

/// Whether the `gemm` crate computes.
fn by_gemm(arithmetic: Arithmetic) -> bool {
    arithmetic == Arithmetic::F32 && Isa::there().last() == Some(&Isa::current())
}

fn stored(view: View<'_>, width: usize, along: Along) -> Operand<'_> {
    Operand { view, width, along }
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
    let Shape { rows, inputs, outputs, .. } = shape;
    assert!(
        x == rows * inputs && weight == inputs * outputs && y == rows * outputs,
        "linear {shape:?} over input {x}, weight {weight}, output {y}"
    );
}
