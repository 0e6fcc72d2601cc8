//! The low-rank update of linear layers, forward and backward: `y += B (scale * A x)` (LoRA: Hu et al., 2021).
//!
//! Where an adapter serves all rows of a batch, the product with `B` (in the backward pass: that with `A`) is
//! fused into the weight's own product, as its epilogue; where it serves some of them, it follows. Layers
//! that share an input have it prepared once for all their `A`s. Layers of one module (GPT-2's query, key and
//! value) share `A`, and so one projection.

use std::ops::Range;

use parlor_kernels::linear::{self, Layer, LayerGradient, LowRankUpdate, Shape};
use parlor_kernels::lora::{self, Dropout};
use parlor_kernels::{View, Write};

use super::adapter::LowRank;
use super::gradients::Gradients;
use super::layers::{LinearLayer, OutputGradient};
use super::pass::Pass;

/// The projection `x A^T` of one module's adapter, for the rows that it serves.
pub(crate) struct Projection<'a> {
    pub(crate) rows: Range<usize>,
    /// Whether those are all.
    whole: bool,
    /// The update of the first of the module's layers.
    pub(crate) update: &'a LowRank,
    /// `A`.
    a: View<'a>,
    inputs: usize,
    pub(crate) dropout: Option<Dropout>,
    /// The input after dropout, where there is dropout.
    pub(crate) dropped: Option<Vec<f32>>,
    /// `[rows, rank]`: `scale * x A^T` at first, the gradient of `x A^T` after [`gradients_of_b`].
    h: Vec<f32>,
    /// Whether the gradient of the input has its part of the product with `A` already.
    added: bool,
}

/// Projects the input `x` that all `layers` share by the `A` of each of their adapters.
pub(crate) fn project<'a, 'l>(
    pass: &Pass<'a>,
    x: View<'_>,
    layers: impl Iterator<Item = &'l LinearLayer>,
) -> Vec<Projection<'a>> {
    let mut projections: Vec<Projection<'a>> = Vec::new();
    for linear in layers {
        for (rows, update) in pass.low_rank(linear) {
            if projections.iter().any(|projection| projection.is_of(&rows, update)) {
                continue;
            }
            let dropout = pass.dropout(update, rows.start);
            let dropped = dropout.map(|dropout| apply(dropout, x.slice(linear.input_range(&rows))));
            let whole = rows.len() * linear.inputs == x.len();
            let (a, h) = (pass.decoder.weight(update.a), vec![0.0; rows.len() * update.rank]);
            let inputs = linear.inputs;
            projections.push(Projection {
                rows,
                whole,
                update,
                a,
                inputs,
                dropout,
                dropped,
                h,
                added: false,
            });
        }
    }
    projections.sort_by_key(|projection| projection.rows.start);
    for group in projections.chunk_by_mut(Projection::shares_input) {
        let shape = Projection::shape(pass, group);
        let dropped = group[0].dropped.take();
        let input = dropped.as_deref().map_or_else(|| x.slice(group[0].input_range()), View::F32);
        let layers = group.iter_mut().map(|projection| Layer {
            weight: projection.a,
            bias: None,
            y: &mut projection.h,
            write: Write::Replace,
            addend: None,
            low_rank: None,
        });
        linear::forward_all(input, shape, &mut layers.collect::<Vec<_>>());
        group[0].dropped = dropped;
        for projection in group {
            lora::scale(&mut projection.h, projection.update.scale);
        }
    }
    projections
}

/// What dropout leaves of `x`.
fn apply(dropout: Dropout, x: View<'_>) -> Vec<f32> {
    let mut out = vec![0.0; x.len()];
    dropout.apply(&x.widened(), &mut out);
    out
}

/// The product with `B` that is fused into the layer's own, if there is one.
pub(crate) fn fused<'f>(
    pass: &Pass<'f>,
    projections: &'f [Projection<'_>],
    linear: &LinearLayer,
) -> Option<LowRankUpdate<'f>> {
    let (rows, update) = pass.low_rank(linear).next()?;
    let projection = projections.iter().find(|found| found.whole && found.is_of(&rows, update))?;
    Some(LowRankUpdate { h: View::F32(&projection.h), factor: b(pass, update), rank: update.rank })
}

/// Adds the products with `B` that are not fused.
pub(crate) fn add(pass: &Pass<'_>, projections: &[Projection<'_>], linear: &LinearLayer, y: &mut [f32]) {
    for (rows, update) in pass.low_rank(linear) {
        if let Some(projection) = projections.iter().find(|found| !found.whole && found.is_of(&rows, update))
        {
            projection.add(pass, linear, update, &mut y[linear.output_range(&rows)]);
        }
    }
}

/// The gradients of the `B`s of layers from those of their outputs, and the gradients of the projections.
pub(crate) fn gradients_of_b(
    pass: &Pass<'_>,
    projections: &mut [Projection<'_>],
    layers: &[OutputGradient<'_>],
    gradients: &mut Gradients,
) {
    for projection in projections {
        let h =
            std::mem::replace(&mut projection.h, vec![0.0; projection.rows.len() * projection.update.rank]);
        let mut write = Write::Replace;
        for OutputGradient { linear, dy } in layers {
            let of_layer = pass.low_rank(linear).find(|(rows, update)| projection.is_of(rows, update));
            let Some((rows, update)) = of_layer else { continue };
            let (dy, shape) =
                (dy.slice(linear.output_range(&rows)), shape_b(pass, linear, update, rows.len()));
            if let Some(gradient) = gradients.get_mut(update.b) {
                linear::backward_weight(&h, dy, &mut gradient[update.b_range()], shape);
            }
            linear::backward_input(dy, b(pass, update), &mut projection.h, write, shape);
            write = Write::Accumulate;
        }
        lora::scale(&mut projection.h, projection.update.scale);
    }
}

/// The product with `A` that is fused into the gradient of the layer's input; the first of a module's layers
/// has it.
pub(crate) fn fused_backward<'f>(
    pass: &Pass<'f>,
    projections: &'f mut [Projection<'_>],
    linear: &LinearLayer,
) -> Option<LowRankUpdate<'f>> {
    let (rows, update) = pass.low_rank(linear).next()?;
    let fusable = |found: &&mut Projection<'_>| found.whole && found.dropout.is_none() && !found.added;
    let projection = projections.iter_mut().filter(fusable).find(|found| found.is_of(&rows, update))?;
    projection.added = true;
    Some(LowRankUpdate { h: View::F32(&projection.h), factor: projection.a, rank: update.rank })
}

/// The gradients of the `A`s from the layers' input `x`, and the part of the gradient of `x` that is not
/// fused.
pub(crate) fn gradients_of_a(
    pass: &Pass<'_>,
    projections: &mut [Projection<'_>],
    x: View<'_>,
    mut dx: Option<&mut [f32]>,
    gradients: &mut Gradients,
) {
    for group in projections.chunk_by(Projection::shares_input) {
        let input = group[0].dropped.as_deref().map_or_else(|| x.slice(group[0].input_range()), View::F32);
        let mut taken = Vec::with_capacity(group.len());
        for projection in group {
            let gradient = gradients.take_to_fill(projection.update.a);
            taken.extend(gradient.map(|gradient| (projection, gradient)));
        }
        let layers = taken.iter_mut().map(|(projection, (dw, write))| LayerGradient {
            dy: View::F32(&projection.h),
            dw: dw.view_mut(),
            write: *write,
        });
        linear::backward_weights(input, Projection::shape(pass, group), &mut layers.collect::<Vec<_>>());
        for (projection, (gradient, _)) in taken {
            gradients.put(projection.update.a, gradient);
        }
    }
    for projection in projections.iter().filter(|projection| !projection.added) {
        let Some(dx) = dx.as_mut().map(|dx| &mut dx[projection.input_range()]) else { continue };
        let shape = Projection::shape(pass, std::slice::from_ref(projection));
        match projection.dropout {
            None => linear::backward_input(&projection.h, projection.a, dx, Write::Accumulate, shape),
            Some(dropout) => {
                let mut d = vec![0.0; dx.len()];
                linear::backward_input(&projection.h, projection.a, &mut d, Write::Replace, shape);
                dropout.apply_backward(&d, dx);
            }
        }
    }
}

impl Projection<'_> {
    /// `y += h B^T`, of its rows.
    pub(crate) fn add(&self, pass: &Pass<'_>, linear: &LinearLayer, update: &LowRank, y: &mut [f32]) {
        let shape = shape_b(pass, linear, update, self.rows.len());
        linear::forward(&self.h, b(pass, update), None, y, Write::Accumulate, shape);
    }

    /// Whether it is the projection of `update` for these rows. Updates of one module differ in their part of
    /// `B` alone.
    fn is_of(&self, rows: &Range<usize>, update: &LowRank) -> bool {
        self.rows == *rows && self.update.a == update.a
    }

    fn shares_input(&self, other: &Self) -> bool {
        self.dropped.is_none() && other.dropped.is_none() && self.rows == other.rows
    }

    /// Elements of the input that belong to its rows.
    fn input_range(&self) -> Range<usize> {
        self.rows.start * self.inputs..self.rows.end * self.inputs
    }

    /// The size of the products of one input with the `A`s of projections that share it.
    fn shape(pass: &Pass<'_>, group: &[Self]) -> Shape {
        let outputs = group.iter().map(|projection| projection.update.rank).sum();
        let (rows, inputs) = (group[0].rows.len(), group[0].inputs);
        Shape { rows, inputs, outputs, arithmetic: pass.arithmetic }
    }
}

/// The layer's part of `B`.
fn b<'a>(pass: &Pass<'a>, update: &LowRank) -> View<'a> {
    pass.decoder.weight(update.b).slice(update.b_range())
}

/// The size of a product with `B`.
fn shape_b(pass: &Pass<'_>, linear: &LinearLayer, update: &LowRank, rows: usize) -> Shape {
    Shape { rows, inputs: update.rank, outputs: linear.outputs, arithmetic: pass.arithmetic }
}
