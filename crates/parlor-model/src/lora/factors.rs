//! The two thin products of low-rank factors beside linear layers, forward and backward.
//!
//! `y += B (scale * A x)`: where an adapter serves all rows of a batch, the product with `B`, and backward that with `A`, is
//! added within the weight's own product, while each tile of its result is near ([`Beside`]); where it serves some of them,
//! after it. Layers that share an input have it prepared once for all their `A`s, forward and for the gradients of them; layers
//! of one module (GPT-2's query, key and value) share `A`, and so all that it makes.

use std::ops::Range;

use parlor_kernels::linear::{self, Beside, Layer, LayerGradient, Shape};
use parlor_kernels::lora::{self, Dropout};
use parlor_kernels::{View, Write};

use super::LowRank;
use crate::gradients::Gradients;
use crate::linear::Linear;
use crate::pass::{Pass, dropped};

/// The factors of one module, and the rows that they serve.
pub(crate) struct Projection<'a> {
    pub(crate) rows: Range<usize>,
    /// Whether those are all.
    whole: bool,
    /// The first of the module's layers that was projections.
    pub(crate) at: &'a LowRank,
    /// `A`.
    a: View<'a>,
    inputs: usize,
    pub(crate) dropout: Option<Dropout>,
    /// The input, less what dropout took, where there is one.
    pub(crate) kept: Option<Vec<f32>>,
    /// `[rows, rank]`: `scale * x A^T` at first, the gradient of `x A^T` after [`gradients_of_b`].
    h: Vec<f32>,
    /// Whether the gradient of the input has their part.
    added: bool,
}

/// What the factors beside layers make of the input `x` of all of them.
pub(crate) fn project<'a, 'l>(
    pass: &Pass<'a>,
    x: View<'_>,
    layers: impl Iterator<Item = &'l Linear>,
) -> Vec<Projection<'a>> {
    let mut projections: Vec<Projection<'a>> = Vec::new();
    for linear in layers {
        for (rows, at) in pass.low_rank(linear) {
            if projections.iter().any(|factors| factors.are(&rows, at)) {
                continue;
            }
            let dropout = pass.dropout(at, rows.start);
            let kept = dropout.map(|dropout| dropped(dropout, x.slice(linear.inside(&rows))));
            let whole = rows.len() * linear.inputs == x.len();
            let (a, h) = (pass.decoder.weight(at.a), vec![0.0; rows.len() * at.rank]);
            let inputs = linear.inputs;
            projections.push(Projection { rows, whole, at, a, inputs, dropout, kept, h, added: false });
        }
    }
    projections.sort_by_key(|factors| factors.rows.start);
    for same in projections.chunk_by_mut(Projection::share_input) {
        let shape = Projection::shape(pass, same);
        let kept = same[0].kept.take();
        let input = kept.as_deref().map_or_else(|| x.slice(same[0].inside()), View::F32);
        let layers = same.iter_mut().map(|factors| Layer {
            weight: factors.a,
            bias: None,
            y: &mut factors.h,
            write: Write::Replace,
            base: None,
            beside: None,
        });
        linear::forward_all(input, shape, &mut layers.collect::<Vec<_>>());
        same[0].kept = kept;
        for factors in same {
            lora::scale(&mut factors.h, factors.at.scale);
        }
    }
    projections
}

/// The product with `B` that is a part of the layer's own, if there is one.
pub(crate) fn beside<'f>(
    pass: &Pass<'f>,
    projections: &'f [Projection<'_>],
    linear: &Linear,
) -> Option<Beside<'f>> {
    let (rows, at) = pass.low_rank(linear).next()?;
    let factors = projections.iter().find(|factors| factors.whole && factors.are(&rows, at))?;
    Some(Beside { h: View::F32(&factors.h), factor: b(pass, at), rank: at.rank })
}

/// Adds the products with `B` that are not.
pub(crate) fn add(pass: &Pass<'_>, projections: &[Projection<'_>], linear: &Linear, y: &mut [f32]) {
    for (rows, at) in pass.low_rank(linear) {
        if let Some(factors) = projections.iter().find(|factors| !factors.whole && factors.are(&rows, at)) {
            factors.add(pass, (linear, at), &mut y[linear.outside(&rows)]);
        }
    }
}

/// The gradients of the `B`s of layers from those of their outputs, and of what the `B`s were multiplied with.
pub(crate) fn gradients_of_b(
    pass: &Pass<'_>,
    projections: &mut [Projection<'_>],
    layers: &[(Linear, View<'_>)],
    gradients: &mut Gradients,
) {
    for factors in projections {
        let h = std::mem::replace(&mut factors.h, vec![0.0; factors.rows.len() * factors.at.rank]);
        let mut write = Write::Replace;
        for (linear, dy) in layers {
            let of_layer = pass.low_rank(linear).find(|(rows, at)| factors.are(rows, at));
            let Some((rows, at)) = of_layer else { continue };
            let (dy, shape) = (dy.slice(linear.outside(&rows)), shape_b(pass, linear, at, rows.len()));
            if let Some(gradient) = gradients.get_mut(at.b) {
                linear::backward_weight(&h, dy, &mut gradient[part_of_b(at)], shape);
            }
            linear::backward_input(dy, b(pass, at), &mut factors.h, write, shape);
            write = Write::Accumulate;
        }
        lora::scale(&mut factors.h, factors.at.scale);
    }
}

/// The product with `A` that is a part of the gradient of the layer's input; the first of a module's layers has it.
pub(crate) fn beside_backward<'f>(
    pass: &Pass<'f>,
    projections: &'f mut [Projection<'_>],
    linear: &Linear,
) -> Option<Beside<'f>> {
    let (rows, at) = pass.low_rank(linear).next()?;
    let within = |factors: &&mut Projection<'_>| factors.whole && factors.dropout.is_none() && !factors.added;
    let factors = projections.iter_mut().filter(within).find(|factors| factors.are(&rows, at))?;
    factors.added = true;
    Some(Beside { h: View::F32(&factors.h), factor: factors.a, rank: at.rank })
}

/// The gradients of the `A`s from the layers' input `x`, and what is not yet in the gradient of that.
pub(crate) fn gradients_of_a(
    pass: &Pass<'_>,
    projections: &mut [Projection<'_>],
    x: View<'_>,
    mut dx: Option<&mut [f32]>,
    gradients: &mut Gradients,
) {
    for same in projections.chunk_by(Projection::share_input) {
        let input = same[0].kept.as_deref().map_or_else(|| x.slice(same[0].inside()), View::F32);
        let mut taken = Vec::with_capacity(same.len());
        for factors in same {
            taken.extend(gradients.take_to_fill(factors.at.a).map(|gradient| (factors, gradient)));
        }
        let layers = taken.iter_mut().map(|(factors, (dw, write))| LayerGradient {
            dy: View::F32(&factors.h),
            dw: dw.view_mut(),
            write: *write,
        });
        linear::backward_weights(input, Projection::shape(pass, same), &mut layers.collect::<Vec<_>>());
        for (factors, (gradient, _)) in taken {
            gradients.put(factors.at.a, gradient);
        }
    }
    for factors in projections.iter().filter(|factors| !factors.added) {
        let Some(dx) = dx.as_mut().map(|dx| &mut dx[factors.inside()]) else { continue };
        let shape = Projection::shape(pass, std::slice::from_ref(factors));
        match factors.dropout {
            None => linear::backward_input(&factors.h, factors.a, dx, Write::Accumulate, shape),
            Some(dropout) => {
                let mut d = vec![0.0; dx.len()];
                linear::backward_input(&factors.h, factors.a, &mut d, Write::Replace, shape);
                dropout.apply_backward(&d, dx);
            }
        }
    }
}

impl Projection<'_> {
    /// `y += h B^T`, of their rows.
    pub(crate) fn add(&self, pass: &Pass<'_>, (linear, at): (&Linear, &LowRank), y: &mut [f32]) {
        let shape = shape_b(pass, linear, at, self.rows.len());
        linear::forward(&self.h, b(pass, at), None, y, Write::Accumulate, shape);
    }

    /// Whether they are those of `at` for these rows; those of a module's layers differ in their part of `B` alone.
    fn are(&self, rows: &Range<usize>, at: &LowRank) -> bool {
        self.rows == *rows && self.at.a == at.a
    }

    fn share_input(&self, other: &Self) -> bool {
        self.kept.is_none() && other.kept.is_none() && self.rows == other.rows
    }

    /// Elements of the input that are of their rows.
    fn inside(&self) -> Range<usize> {
        self.rows.start * self.inputs..self.rows.end * self.inputs
    }

    /// The size of the products of their input with the `A`s of factors that share it.
    fn shape(pass: &Pass<'_>, same: &[Self]) -> Shape {
        let outputs = same.iter().map(|factors| factors.at.rank).sum();
        let (rows, inputs) = (same[0].rows.len(), same[0].inputs);
        Shape { rows, inputs, outputs, arithmetic: pass.arithmetic }
    }
}

/// The elements of `B` that are of the layer that `at` is beside.
fn part_of_b(at: &LowRank) -> Range<usize> {
    at.rows.start * at.rank..at.rows.end * at.rank
}

fn b<'a>(pass: &Pass<'a>, at: &LowRank) -> View<'a> {
    pass.decoder.weight(at.b).slice(part_of_b(at))
}

/// The size of a product with `B`.
fn shape_b(pass: &Pass<'_>, linear: &Linear, at: &LowRank, rows: usize) -> Shape {
    Shape { rows, inputs: at.rank, outputs: linear.outputs, arithmetic: pass.arithmetic }
}
