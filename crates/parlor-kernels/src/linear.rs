//! `y = x W^T + b` and its three backward products. `W` is `[outputs, inputs]`, as `nn.Linear` stores it. Activations are
//! f32, or bf16 where only products of bf16 meet them. Layers that share an input have it packed once, forward and for the
//! gradients of their weights.
//!
//! f32 products of f32 weights are those of the `gemm` crate, which chooses its instructions itself, unless less than the
//! machine has is asked for, or the processor has 512-bit registers; all others pack and widen their operands a panel at a
//! time, so that a widened copy of a whole matrix never exists. Few rows (decode) read each weight once, as dot products in
//! f32. Packed weights meet inputs that are rounded to 8 bits, forward only (see [`packed`]).
//! Leaves out: weights that stay packed between calls.

use crate::cpu::isa::Isa;
use crate::cpu::simd::{Element, dispatch};
use crate::matmul::gemm::{Along, Band, Operand, Path, Product, Size, Thin, product, product_all};
use crate::matmul::gemv;
use crate::matmul::prepacked::{self, Packed};
use crate::matmul::{Mat, MatMut, On, matmul};
use crate::parallel::ParallelExt as _;
use crate::{Arithmetic, ValuesMut, View, Write};

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
    /// Numbers of the same shape that are added, instead of those that `y` holds.
    pub base: Option<&'a [f32]>,
    /// A product with `B` that is added.
    pub beside: Option<Beside<'a>>,
}

/// A low-rank factor beside a weight, and what it is multiplied with: the product is added while the sums of the weight's are
/// near (LoRA: Hu et al., 2021).
#[derive(Clone, Copy, Debug)]
pub struct Beside<'a> {
    /// `[rows, rank]`: the input times `A`, or the output's gradient times `B`, scaled.
    pub h: View<'a>,
    /// `B` `[outputs, rank]` where the weight makes an output, `A` `[rank, inputs]` where it makes the gradient of an input.
    pub factor: View<'a>,
    /// Length of its sums.
    pub rank: usize,
}

impl<'a> Beside<'a> {
    /// As a part of the weight's product, whose result is `width` wide.
    fn thin(&self, along: Along, width: usize) -> Thin<'a> {
        let step = if along == Along::Depth { self.rank } else { width };
        Thin {
            left: stored(self.h, self.rank, Along::Depth),
            right: stored(self.factor, step, along),
            depth: self.rank,
        }
    }
}

impl<'a> Layer<'a> {
    /// The weight, if it is packed and whole.
    fn packed(&self) -> Option<&'a Packed> {
        if let View::Packed(view) = self.weight { view.whole() } else { None }
    }

    /// Puts the base into `y`, for products that only add to that.
    fn settle(&mut self) {
        if let Some(base) = self.base.take() {
            self.y.copy_from_slice(base);
            self.write = Write::Accumulate;
        }
    }
}

/// One of the layers of a [`backward_weights`].
pub struct LayerGradient<'a> {
    /// The gradient of its output, `[rows, outputs]`.
    pub dy: View<'a>,
    /// That of its weight, `[outputs, inputs]`; bf16 gets it rounded to nearest.
    pub dw: ValuesMut<'a>,
    /// What becomes of what `dw` holds.
    pub write: Write,
}

/// `y[rows, outputs] (+)= x[rows, inputs] W^T + bias`.
pub fn forward<'a>(
    x: impl Into<View<'a>>,
    weight: View<'_>,
    bias: Option<&[f32]>,
    y: &mut [f32],
    write: Write,
    shape: Shape,
) {
    let x = x.into();
    check(shape, x.len(), weight.len(), y.len());
    forward_all(x, shape, &mut [Layer { weight, bias, y, write, base: None, beside: None }]);
}

/// As [`forward`], of several layers that share their input, which is prepared once for all of them; `shape.outputs` are
/// those of all together.
pub fn forward_all(x: View<'_>, shape: Shape, layers: &mut [Layer<'_>]) {
    let Shape { rows, inputs, arithmetic, .. } = shape;
    let outputs: usize = layers.iter().map(|layer| layer.weight.len() / inputs.max(1)).sum();
    assert!(x.len() == rows * inputs && (outputs == shape.outputs || inputs == 0), "layers of {shape:?}");
    if rows == 0 || inputs == 0 {
        return;
    }
    let packed = layers.iter().all(|layer| layer.packed().is_some());
    layers.iter().filter_map(Layer::packed).for_each(Packed::before_product);
    if packed && prepacked::are_widened(rows, layers.iter().filter_map(Layer::packed)) {
        // As inputs of packed bf16 are rounded when they are few.
        forward_stored(x, Shape { arithmetic: Arithmetic::Bf16, ..shape }, layers, Thins::Apart);
    } else if packed {
        layers.iter_mut().for_each(Layer::settle);
        let outputs = layers.iter_mut().filter_map(|layer| {
            let (weight, bias, write) = (layer.packed()?, layer.bias, layer.write);
            Some(prepacked::Output { weight, y: layer.y, bias, write })
        });
        let mut outputs: Vec<_> = outputs.collect();
        prepacked::forward_best(&x.widened(), &mut outputs);
    } else {
        forward_stored(x, shape, layers, Thins::Within);
    }
    for layer in layers {
        if let Some(Beside { h, factor, rank }) = layer.beside {
            let shape = Shape { rows, inputs: rank, outputs: layer.weight.len() / inputs, arithmetic };
            forward(h, factor, None, layer.y, Write::Accumulate, shape);
        }
    }
}

/// Where products with low-rank factors are made.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Thins {
    /// With the weights' products.
    Within,
    /// After them, in another arithmetic.
    Apart,
}

/// [`forward_all`] of weights that are widened on the way. Takes what is [`Layer::beside`] where that is added already.
fn forward_stored(x: View<'_>, shape: Shape, layers: &mut [Layer<'_>], thins: Thins) {
    let Shape { rows, inputs, arithmetic, .. } = shape;
    let in_few = rows <= gemv::ROWS && arithmetic == Arithmetic::F32;
    let plain = |layer: &Layer<'_>| by_gemm(arithmetic) && matches!(layer.weight, View::F32(_));
    if in_few || layers.iter().any(plain) {
        let x = x.widened();
        layers.iter_mut().for_each(Layer::settle);
        for Layer { weight, y, write, .. } in &mut *layers {
            let outputs = weight.len() / inputs;
            if in_few {
                gemv::forward(&x, *weight, y, *write, Shape { outputs, ..shape });
            } else if let (true, View::F32(weight)) = (by_gemm(arithmetic), *weight) {
                let (x, weight) =
                    (Mat::new(&x, rows, inputs, inputs), Mat::new(weight, outputs, inputs, inputs));
                matmul(MatMut::new(y, rows, outputs, outputs), x, weight.transposed(), 1.0, *write, On::Pool);
            } else {
                let operands =
                    (stored(View::F32(&x), inputs, Along::Depth), stored(*weight, inputs, Along::Depth));
                let size = Size { rows, columns: outputs, depth: inputs };
                product(Path::best(arithmetic), y, operands, size, *write);
            }
        }
    } else {
        let (mut weights, mut results) = (Vec::new(), Vec::new());
        for Layer { weight, y, write, base, beside, .. } in &mut *layers {
            let operand = stored(*weight, inputs, Along::Depth);
            let outputs = weight.len() / inputs;
            let beside = if thins == Thins::Within { beside.take() } else { None };
            let thin = beside.map(|beside| beside.thin(Along::Depth, outputs));
            weights.push(Band { operand, lanes: outputs });
            results.push(Product { to: (&mut **y).into(), write: *write, base: *base, thin });
        }
        let x = Band { operand: stored(x, inputs, Along::Depth), lanes: rows };
        product_all(Path::best(arithmetic), (&[x], &weights), inputs, &mut results);
    }
    for Layer { bias, y, .. } in layers {
        if let Some(bias) = bias {
            add_bias(bias, y);
        }
    }
}

/// Adds `bias` to every row of `y`.
fn add_bias(bias: &[f32], y: &mut [f32]) {
    let width = bias.len().max(1);
    assert!(y.len().is_multiple_of(width), "length of the bias");
    y.chunks_mut(BIAS_ROWS * width).par_for_each(|rows| {
        for row in rows.chunks_exact_mut(width) {
            for (y, b) in row.iter_mut().zip(bias) {
                *y += b;
            }
        }
    });
}

/// `dx (+)= dy W`: the gradient of the input.
pub fn backward_input<'a>(
    dy: impl Into<View<'a>>,
    weight: View<'_>,
    dx: &mut [f32],
    write: Write,
    shape: Shape,
) {
    backward_input_beside(dy.into(), (weight, None), dx, write, shape);
}

/// As [`backward_input`], and what is beside the weight.
pub fn backward_input_beside(
    dy: View<'_>,
    (weight, beside): (View<'_>, Option<Beside<'_>>),
    dx: &mut [f32],
    write: Write,
    shape: Shape,
) {
    let Shape { rows, inputs, outputs, arithmetic } = shape;
    check(shape, dx.len(), weight.len(), dy.len());
    if let (true, View::F32(weight), View::F32(dy)) = (by_gemm(arithmetic), weight, dy) {
        let (dy, weight) = (Mat::new(dy, rows, outputs, outputs), Mat::new(weight, outputs, inputs, inputs));
        matmul(MatMut::new(dx, rows, inputs, inputs), dy, weight, 1.0, write, On::Pool);
        if let Some(Beside { h, factor, rank }) = beside {
            let shape = Shape { outputs: rank, ..shape };
            backward_input(h, factor, dx, Write::Accumulate, shape);
        }
        return;
    }
    let dy = Band { operand: stored(dy, outputs, Along::Depth), lanes: rows };
    let weight = Band { operand: stored(weight, inputs, Along::Lanes), lanes: inputs };
    let thin = beside.map(|beside| beside.thin(Along::Lanes, inputs));
    let result = Product { to: dx.into(), write, base: None, thin };
    product_all(Path::best(arithmetic), (&[dy], &[weight]), outputs, &mut [result]);
}

/// `dW += dy^T x`: the gradient of the weight, f32 `[outputs, inputs]`.
pub fn backward_weight<'a>(x: impl Into<View<'a>>, dy: impl Into<View<'a>>, dw: &mut [f32], shape: Shape) {
    let (x, dy) = (x.into(), dy.into());
    check(shape, x.len(), dw.len(), dy.len());
    backward_weights(x, shape, &mut [LayerGradient { dy, dw: dw.into(), write: Write::Accumulate }]);
}

/// As [`backward_weight`], of several layers that share their input; `shape.outputs` are those of all together.
pub fn backward_weights(x: View<'_>, shape: Shape, layers: &mut [LayerGradient<'_>]) {
    let Shape { rows, inputs, arithmetic, .. } = shape;
    let outputs = |layer: &LayerGradient<'_>| layer.dw.len() / inputs.max(1);
    assert!(
        x.len() == rows * inputs && layers.iter().all(|layer| layer.dy.len() == rows * outputs(layer)),
        "gradients of weights over {shape:?}"
    );
    let (mut lefts, mut results) = (Vec::new(), Vec::new());
    for layer in layers {
        let outputs = outputs(layer);
        match (by_gemm(arithmetic), x, layer.dy, &mut layer.dw) {
            (true, View::F32(x), View::F32(dy), ValuesMut::F32(dw)) => {
                let (dy, x) = (Mat::new(dy, rows, outputs, outputs), Mat::new(x, rows, inputs, inputs));
                let dw = MatMut::new(dw, outputs, inputs, inputs);
                matmul(dw, dy.transposed(), x, 1.0, layer.write, On::Pool);
            }
            (_, _, dy, dw) => {
                lefts.push(Band { operand: stored(dy, outputs, Along::Lanes), lanes: outputs });
                results.push(Product { to: dw.reborrow(), write: layer.write, base: None, thin: None });
            }
        }
    }
    if !lefts.is_empty() {
        let x = Band { operand: stored(x, inputs, Along::Lanes), lanes: inputs };
        product_all(Path::best(arithmetic), (&lefts, &[x]), rows, &mut results);
    }
}

/// Whether the `gemm` crate computes: its tiles are as fast as these, or faster, but for those of 512-bit registers.
fn by_gemm(arithmetic: Arithmetic) -> bool {
    let isa = Isa::current();
    arithmetic == Arithmetic::F32 && isa != Isa::Avx512 && Isa::available().last() == Some(&isa)
}

fn stored(view: View<'_>, width: usize, along: Along) -> Operand<'_> {
    Operand { view, width, along }
}

/// `db += sum of the rows of dy`: the gradient of the bias. Rows are added in order.
pub fn backward_bias<'a>(dy: impl Into<View<'a>>, db: &mut [f32]) {
    match dy.into() {
        View::Bf16(dy) => add_rows(dy, db),
        View::F32(dy) => add_rows(dy, db),
        other => add_rows(&other.widened()[..], db),
    }
}

fn add_rows<T: Element>(rows: &[T], sum: &mut [f32]) {
    dispatch(
        #[inline(always)]
        || {
            for row in rows.chunks_exact(sum.len().max(1)) {
                for (sum, value) in sum.iter_mut().zip(row) {
                    *sum += value.widen();
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
