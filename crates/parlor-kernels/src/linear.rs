//! `y = x W^T + b` and its three backward products. `W` is `[outputs, inputs]`, as `nn.Linear` stores it. Activations are f32, or bf16
//! where only bf16 products read them. Layers that share an input have it packed once, forward and for the gradients of their weights.
//!
//! How a product is computed is chosen in [`matmul`](crate::matmul).

use crate::cpu::simd::{Element, dispatch};
use crate::matmul::gemm::{
    BatchedOperand, GemmOutput, GemmSize, LowRankEpilogue, Operand, StorageOrder, gemm, gemm_batched,
};
use crate::matmul::gemm_crate::{self, Mat, MatMut};
use crate::matmul::prepacked::{PrepackedOutput, bf16, int8};
use crate::matmul::{KernelSet, Method, choose, choose_backward, gemv, whole_prepacked};
use crate::memory::PrepackedWeight;
use crate::memory::prepacked::layout::PackedLayout;
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
    /// What becomes of the old content of `y`.
    pub write: Write,
    /// An addend of the same shape, instead of `y`.
    pub addend: Option<&'a [f32]>,
    /// A low-rank update of the weight.
    pub low_rank: Option<LowRankUpdate<'a>>,
}

/// A low-rank update of a weight, `W + B A`, as far as one product needs it: it is added to each tile of the weight's product while the
/// tile is in L1 (LoRA: Hu et al., 2021).
#[derive(Clone, Copy, Debug)]
pub struct LowRankUpdate<'a> {
    /// `[rows, rank]`: the input times `A`, or the output's gradient times `B`, scaled.
    pub h: View<'a>,
    /// `B` `[outputs, rank]` forward, `A` `[rank, inputs]` for the gradient of the input.
    pub factor: View<'a>,
    /// Length of its sums.
    pub rank: usize,
}

impl<'a> LowRankUpdate<'a> {
    /// As the epilogue of the weight's product, whose result has `width` columns.
    fn epilogue(&self, order: StorageOrder, width: usize) -> LowRankEpilogue<'a> {
        let stride = if order == StorageOrder::KContiguous { self.rank } else { width };
        LowRankEpilogue {
            a: operand(self.h, self.rank, StorageOrder::KContiguous),
            b: operand(self.factor, stride, order),
            depth: self.rank,
        }
    }
}

impl Layer<'_> {
    /// Copies the addend into `y`, for products that only accumulate.
    fn copy_addend(&mut self) {
        if let Some(addend) = self.addend.take() {
            self.y.copy_from_slice(addend);
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
    /// What becomes of the old content of `dw`.
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
    forward_all(x, shape, &mut [Layer { weight, bias, y, write, addend: None, low_rank: None }]);
}

/// As [`forward`], of several layers that share their input, which is packed once for all of them; `shape.outputs` counts those of
/// all together.
pub fn forward_all(x: View<'_>, shape: Shape, layers: &mut [Layer<'_>]) {
    let Shape { rows, inputs, arithmetic, .. } = shape;
    let outputs: usize = layers.iter().map(|layer| layer.weight.len() / inputs.max(1)).sum();
    assert!(x.len() == rows * inputs && (outputs == shape.outputs || inputs == 0), "layers of {shape:?}");
    if rows == 0 || inputs == 0 {
        return;
    }
    let kernels = KernelSet::best();
    let weights: Vec<View<'_>> = layers.iter().map(|layer| layer.weight).collect();
    let method = choose(rows, &weights, arithmetic, kernels);
    weights.iter().filter_map(whole_prepacked).for_each(|weight| weight.storage().before_product());
    match method {
        Method::Prepacked => forward_prepacked(kernels, &x.widened(), layers),
        // As the activations of prepacked bf16 kernels are rounded. Low-rank updates stay in their own precision, so they come after.
        Method::WidenedGemm => {
            let shape = Shape { arithmetic: Arithmetic::Bf16, ..shape };
            forward_batched(kernels, x, shape, layers, LowRankPlace::Separate);
        }
        Method::Gemv | Method::GemmCrate => forward_each(kernels, method, &x.widened(), shape, layers),
        Method::Gemm => forward_batched(kernels, x, shape, layers, LowRankPlace::Epilogue),
    }
    for layer in layers {
        if let Some(LowRankUpdate { h, factor, rank }) = layer.low_rank {
            let shape = Shape { rows, inputs: rank, outputs: layer.weight.len() / inputs, arithmetic };
            forward(h, factor, None, layer.y, Write::Accumulate, shape);
        }
    }
}

/// Where low-rank updates are added.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LowRankPlace {
    /// To the tiles of the weights' products.
    Epilogue,
    /// After the weights' products, in a product of their own.
    Separate,
}

/// Prepacked weights, all of one kind together, so that they share the work on the activations.
fn forward_prepacked(kernels: &KernelSet, x: &[f32], layers: &mut [Layer<'_>]) {
    layers.iter_mut().for_each(Layer::copy_addend);
    let outputs = layers.iter_mut().filter_map(|layer| {
        let (weight, bias, write) = (whole_prepacked(&layer.weight)?, layer.bias, layer.write);
        Some(PrepackedOutput { weight, y: layer.y, bias, write })
    });
    let mut outputs: Vec<_> = outputs.collect();
    let is_bf16 = |weight: &PrepackedWeight| weight.grid().layout == PackedLayout::Bf16Pairs;
    for outputs in outputs.chunk_by_mut(|a, b| is_bf16(a.weight) == is_bf16(b.weight)) {
        if is_bf16(outputs[0].weight) {
            bf16::forward(kernels.bf16(), x, outputs);
        } else {
            let columns = outputs[0].weight.grid().columns;
            int8::quantize_and_forward(kernels.int8(), x, columns, outputs);
        }
    }
}

/// Layer by layer: gemv, or gemm of the `gemm` crate where the weight is f32.
fn forward_each(kernels: &KernelSet, method: Method, x: &[f32], shape: Shape, layers: &mut [Layer<'_>]) {
    let Shape { rows, inputs, arithmetic, .. } = shape;
    layers.iter_mut().for_each(Layer::copy_addend);
    for Layer { weight, y, write, bias, .. } in layers {
        let outputs = weight.len() / inputs;
        match (method, *weight) {
            (Method::Gemv, weight) => gemv::forward(kernels.gemv(), x, weight, y, (rows, inputs, *write)),
            (_, View::F32(weight)) => {
                let (x, weight) =
                    (Mat::new(x, rows, inputs, inputs), Mat::new(weight, outputs, inputs, inputs));
                let y = MatMut::new(y, rows, outputs, outputs);
                gemm_crate::gemm(y, x, weight.transposed(), 1.0, *write);
            }
            (_, weight) => {
                let order = StorageOrder::KContiguous;
                let operands = (operand(View::F32(x), inputs, order), operand(weight, inputs, order));
                let size = GemmSize { rows, columns: outputs, depth: inputs };
                gemm(kernels.gemm(arithmetic), y, operands, size, *write);
            }
        }
        if let Some(bias) = bias {
            add_bias(bias, y);
        }
    }
}

/// All layers as one batch of gemm. Takes the [`Layer::low_rank`] that it adds.
fn forward_batched(
    kernels: &KernelSet,
    x: View<'_>,
    shape: Shape,
    layers: &mut [Layer<'_>],
    place: LowRankPlace,
) {
    let Shape { rows, inputs, arithmetic, .. } = shape;
    let (mut weights, mut results) = (Vec::new(), Vec::new());
    for Layer { weight, y, write, addend, low_rank, .. } in &mut *layers {
        let outputs = weight.len() / inputs;
        let low_rank = if place == LowRankPlace::Epilogue { low_rank.take() } else { None };
        let epilogue = low_rank.map(|low_rank| low_rank.epilogue(StorageOrder::KContiguous, outputs));
        let weight = operand(*weight, inputs, StorageOrder::KContiguous);
        weights.push(BatchedOperand { operand: weight, lanes: outputs });
        results.push(GemmOutput { to: (&mut **y).into(), write: *write, addend: *addend, epilogue });
    }
    let x = BatchedOperand { operand: operand(x, inputs, StorageOrder::KContiguous), lanes: rows };
    gemm_batched(kernels.gemm(arithmetic), (&[x], &weights), inputs, &mut results);
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
    backward_input_low_rank(dy.into(), (weight, None), dx, write, shape);
}

/// As [`backward_input`], of a weight with a low-rank update.
pub fn backward_input_low_rank(
    dy: View<'_>,
    (weight, low_rank): (View<'_>, Option<LowRankUpdate<'_>>),
    dx: &mut [f32],
    write: Write,
    shape: Shape,
) {
    let Shape { rows, inputs, outputs, arithmetic } = shape;
    check(shape, dx.len(), weight.len(), dy.len());
    if let (Method::GemmCrate, View::F32(weight), View::F32(dy)) =
        (choose_backward([weight, dy], arithmetic), weight, dy)
    {
        let (dy, weight) = (Mat::new(dy, rows, outputs, outputs), Mat::new(weight, outputs, inputs, inputs));
        gemm_crate::gemm(MatMut::new(dx, rows, inputs, inputs), dy, weight, 1.0, write);
        if let Some(LowRankUpdate { h, factor, rank }) = low_rank {
            let shape = Shape { outputs: rank, ..shape };
            backward_input(h, factor, dx, Write::Accumulate, shape);
        }
        return;
    }
    let dy = BatchedOperand { operand: operand(dy, outputs, StorageOrder::KContiguous), lanes: rows };
    let weight =
        BatchedOperand { operand: operand(weight, inputs, StorageOrder::MnContiguous), lanes: inputs };
    let epilogue = low_rank.map(|low_rank| low_rank.epilogue(StorageOrder::MnContiguous, inputs));
    let result = GemmOutput { to: dx.into(), write, addend: None, epilogue };
    gemm_batched(KernelSet::best().gemm(arithmetic), (&[dy], &[weight]), outputs, &mut [result]);
}

/// `dW += dy^T x`: the gradient of the weight, f32 `[outputs, inputs]`.
pub fn backward_weight<'a>(x: impl Into<View<'a>>, dy: impl Into<View<'a>>, dw: &mut [f32], shape: Shape) {
    let (x, dy) = (x.into(), dy.into());
    check(shape, x.len(), dw.len(), dy.len());
    backward_weights(x, shape, &mut [LayerGradient { dy, dw: dw.into(), write: Write::Accumulate }]);
}

/// As [`backward_weight`], of several layers that share their input; `shape.outputs` counts those of all together.
pub fn backward_weights(x: View<'_>, shape: Shape, layers: &mut [LayerGradient<'_>]) {
    let Shape { rows, inputs, arithmetic, .. } = shape;
    let outputs = |layer: &LayerGradient<'_>| layer.dw.len() / inputs.max(1);
    assert!(
        x.len() == rows * inputs && layers.iter().all(|layer| layer.dy.len() == rows * outputs(layer)),
        "gradients of weights over {shape:?}"
    );
    let (mut batch, mut results) = (Vec::new(), Vec::new());
    for layer in layers {
        let outputs = outputs(layer);
        match (choose_backward([x, layer.dy], arithmetic), x, layer.dy, &mut layer.dw) {
            (Method::GemmCrate, View::F32(x), View::F32(dy), ValuesMut::F32(dw)) => {
                let (dy, x) = (Mat::new(dy, rows, outputs, outputs), Mat::new(x, rows, inputs, inputs));
                let dw = MatMut::new(dw, outputs, inputs, inputs);
                gemm_crate::gemm(dw, dy.transposed(), x, 1.0, layer.write);
            }
            (_, _, dy, dw) => {
                let dy = operand(dy, outputs, StorageOrder::MnContiguous);
                batch.push(BatchedOperand { operand: dy, lanes: outputs });
                let to = dw.reborrow();
                results.push(GemmOutput { to, write: layer.write, addend: None, epilogue: None });
            }
        }
    }
    if !batch.is_empty() {
        let x = BatchedOperand { operand: operand(x, inputs, StorageOrder::MnContiguous), lanes: inputs };
        gemm_batched(KernelSet::best().gemm(arithmetic), (&batch, &[x]), rows, &mut results);
    }
}

fn operand(view: View<'_>, width: usize, order: StorageOrder) -> Operand<'_> {
    Operand { view, width, order }
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
