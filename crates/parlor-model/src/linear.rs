//! The one place where a layer's input meets a weight: `y = x W^T + b`, forward and backward, and the low-rank factors
//! of the adapters beside it. Quantized weights meet dense ones here too, and nowhere else.

use std::ops::Range;

use parlor_kernels::linear::{self, Layer, Shape};
use parlor_kernels::{View, Write, low_rank};

use crate::decoder::ParameterId;
use crate::gradients::Gradients;
use crate::lora::LowRank;
use crate::parameter::Site;
use crate::pass::{Pass, dropped};

/// A linear layer, by the places of its parameters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Linear {
    pub(crate) layer: usize,
    pub(crate) site: Site,
    pub(crate) weight: ParameterId,
    pub(crate) bias: Option<ParameterId>,
    pub(crate) outputs: usize,
    pub(crate) inputs: usize,
}

/// Whether the gradients of one of the layers, or of what is beside it, need the layers' input.
pub(crate) fn need_input(pass: &Pass<'_>, layers: &[Linear], gradients: &Gradients) -> bool {
    let trained = |id| gradients.view(id).is_some();
    layers.iter().any(|linear| trained(pass.resolve(linear.weight)) || pass.low_rank(linear).next().is_some())
}

/// Where a gradient of the input goes; none when nothing below is trained.
pub(crate) type Sink<'a> = Option<(&'a mut [f32], Write)>;

/// A layer, where its output goes, `[rows, outputs]`, and what it is added to, if anything.
pub(crate) type Output<'a> = (Linear, &'a mut [f32], Option<&'a [f32]>);

/// [`Linear::forward`] of layers that share their input, which is prepared for their products once.
pub(crate) fn forward_all(pass: &Pass<'_>, x: View<'_>, layers: &mut [Output<'_>]) {
    let Some(inputs) = layers.first().map(|(linear, ..)| linear.inputs) else { return };
    let rows = x.len() / inputs;
    let mut plain = Vec::with_capacity(layers.len());
    let mut outputs = 0;
    for (linear, y, base) in layers.iter_mut() {
        if linear.is_dora(pass) {
            if let Some(base) = base {
                y.copy_from_slice(base);
            }
            let write = if base.is_some() { Write::Accumulate } else { Write::Replace };
            linear.dora_forward(pass, &x.widened(), y, write);
        } else {
            outputs += linear.outputs;
            let bias = linear.bias.map(|id| pass.vector(id));
            let weight = pass.weight(linear.weight);
            plain.push(Layer { weight, bias, y, write: Write::Replace, base: *base });
        }
    }
    let shape = Shape { rows, inputs, outputs, arithmetic: pass.arithmetic };
    linear::forward_all(x, shape, &mut plain);
    // DoRA's layers have theirs already.
    for (linear, y, _) in layers.iter_mut().filter(|(linear, ..)| !linear.is_dora(pass)) {
        for (rows, at) in pass.low_rank(linear) {
            let x = x.slice(linear.inside(&rows));
            let kept = pass.dropout(at, rows.start).map(|dropout| dropped(dropout, x));
            let x = kept.as_deref().map_or(x, View::F32);
            linear.add_low_rank(pass, at, x, &mut y[linear.outside(&rows)]);
        }
    }
}

/// [`Linear::backward`] of layers that share their input: their gradients by it are added up. `x` is read only where
/// [`need_input`] says so.
pub(crate) fn backward_all(
    pass: &Pass<'_>,
    x: View<'_>,
    layers: &[(Linear, View<'_>)],
    mut dx: Sink<'_>,
    gradients: &mut Gradients,
) {
    let Some((first, dy)) = layers.first() else { return };
    let (inputs, rows) = (first.inputs, dy.len() / first.outputs);
    let mut of_weights = Vec::with_capacity(layers.len());
    for (linear, dy) in layers {
        if let Some(gradient) = linear.bias.and_then(|bias| gradients.get_mut(pass.resolve(bias))) {
            linear::backward_bias(*dy, gradient);
        }
        let to = dx.as_mut().map(|(dx, write)| (&mut **dx, std::mem::replace(write, Write::Accumulate)));
        if linear.is_dora(pass) {
            linear.dora_backward(pass, &x.widened(), &dy.widened(), to, gradients);
            continue;
        }
        let id = pass.resolve(linear.weight);
        of_weights.extend(gradients.take_to_fill(id).map(|gradient| (id, *dy, gradient)));
        if let Some((dx, write)) = to {
            let shape = linear.shape(pass, rows);
            linear::backward_input(*dy, pass.weight(linear.weight), dx, write, shape);
        }
    }
    let mut shared = Vec::with_capacity(of_weights.len());
    for (_, dy, (dw, write)) in &mut of_weights {
        shared.push(linear::LayerGradient { dy: *dy, dw: dw.view_mut(), write: *write });
    }
    if !shared.is_empty() {
        let outputs = shared.iter().map(|layer| layer.dw.len() / inputs).sum();
        let shape = Shape { rows, inputs, outputs, arithmetic: pass.arithmetic };
        linear::backward_weights(x, shape, &mut shared);
    }
    for (id, _, (gradient, _)) in of_weights {
        gradients.put(id, gradient);
    }
    // DoRA's layers have theirs already, those of other adapters beside them included.
    for (linear, dy) in layers.iter().filter(|(linear, _)| !linear.is_dora(pass)) {
        for (rows, at) in pass.low_rank(linear) {
            let dx = dx.as_mut().map(|(dx, _)| &mut dx[linear.inside(&rows)]);
            let (x, dy) = (x.slice(linear.inside(&rows)), dy.slice(linear.outside(&rows)));
            linear.low_rank_backward(pass, (at, rows.start), x, dy, dx, gradients);
        }
    }
}

impl Linear {
    /// Whether an adapter of this pass trains the layer's magnitudes apart: then `dora.rs` computes it, for all rows.
    fn is_dora(&self, pass: &Pass<'_>) -> bool {
        pass.low_rank(self).any(|(_, at)| at.magnitude.is_some())
    }

    pub(crate) fn shape(&self, pass: &Pass<'_>, rows: usize) -> Shape {
        Shape { rows, inputs: self.inputs, outputs: self.outputs, arithmetic: pass.arithmetic }
    }

    /// `y = base + x W^T + b` for `x` `[rows, inputs]`; `y` and `base` `[rows, outputs]`.
    pub(crate) fn forward(&self, pass: &Pass<'_>, x: View<'_>, base: &[f32], y: &mut [f32]) {
        forward_all(pass, x, &mut [(*self, y, Some(base))]);
    }

    /// `dx (+)= dy W`, and the parameters' gradients from the forward's input `x`.
    pub(crate) fn backward(
        &self,
        pass: &Pass<'_>,
        x: View<'_>,
        dy: View<'_>,
        dx: Sink<'_>,
        gradients: &mut Gradients,
    ) {
        backward_all(pass, x, &[(*self, dy)], dx, gradients);
    }

    /// Elements of an input that are of these rows.
    pub(crate) fn inside(&self, rows: &Range<usize>) -> Range<usize> {
        rows.start * self.inputs..rows.end * self.inputs
    }

    /// Elements of an output that are of these rows.
    pub(crate) fn outside(&self, rows: &Range<usize>) -> Range<usize> {
        rows.start * self.outputs..rows.end * self.outputs
    }

    fn factors<'a>(&self, pass: &Pass<'a>, at: &LowRank) -> (View<'a>, View<'a>) {
        let rows = at.rows.start * at.rank..at.rows.end * at.rank;
        (pass.decoder.weight(at.a), pass.decoder.weight(at.b).slice(rows))
    }

    /// The product with an adapter's `A`.
    fn shape_a(&self, pass: &Pass<'_>, at: &LowRank, rows: usize) -> Shape {
        Shape { rows, inputs: self.inputs, outputs: at.rank, arithmetic: pass.arithmetic }
    }

    /// The product with an adapter's `B`.
    fn shape_b(&self, pass: &Pass<'_>, at: &LowRank, rows: usize) -> Shape {
        Shape { rows, inputs: at.rank, outputs: self.outputs, arithmetic: pass.arithmetic }
    }

    /// `scale * x A^T`, `[rows, rank]`.
    fn thin(&self, pass: &Pass<'_>, (a, at): (View<'_>, &LowRank), x: View<'_>) -> Vec<f32> {
        let rows = x.len() / self.inputs;
        let mut h = vec![0.0; rows * at.rank];
        linear::forward(x, a, None, &mut h, Write::Replace, self.shape_a(pass, at, rows));
        low_rank::scale(&mut h, at.scale);
        h
    }

    /// `y += scale * x A^T B^T`.
    pub(crate) fn add_low_rank(&self, pass: &Pass<'_>, at: &LowRank, x: View<'_>, y: &mut [f32]) {
        let (a, b) = self.factors(pass, at);
        let h = self.thin(pass, (a, at), x);
        linear::forward(&h, b, None, y, Write::Accumulate, self.shape_b(pass, at, x.len() / self.inputs));
    }

    /// The gradients of [`Self::add_low_rank`], whose input was `x` less what dropout took.
    pub(crate) fn low_rank_backward(
        &self,
        pass: &Pass<'_>,
        (at, row): (&LowRank, usize),
        x: View<'_>,
        dy: View<'_>,
        dx: Option<&mut [f32]>,
        gradients: &mut Gradients,
    ) {
        let (a, b) = self.factors(pass, at);
        let dropout = pass.dropout(at, row);
        let rows = x.len() / self.inputs;
        let kept = dropout.map(|dropout| dropped(dropout, x));
        let x = kept.as_deref().map_or(x, View::F32);
        let (to_a, to_b) = (self.shape_a(pass, at, rows), self.shape_b(pass, at, rows));
        if let Some(gradient) = gradients.get_mut(at.b) {
            let h = self.thin(pass, (a, at), x);
            let own = at.rows.start * at.rank..at.rows.end * at.rank;
            linear::backward_weight(&h, dy, &mut gradient[own], to_b);
        }
        let mut dh = vec![0.0; rows * at.rank];
        linear::backward_input(dy, b, &mut dh, Write::Replace, to_b);
        low_rank::scale(&mut dh, at.scale);
        if let Some(gradient) = gradients.get_mut(at.a) {
            linear::backward_weight(x, &dh, gradient, to_a);
        }
        match (dx, dropout) {
            (None, _) => {}
            (Some(dx), None) => linear::backward_input(&dh, a, dx, Write::Accumulate, to_a),
            (Some(dx), Some(dropout)) => {
                let mut d = vec![0.0; dx.len()];
                linear::backward_input(&dh, a, &mut d, Write::Replace, to_a);
                dropout.apply_backward(&d, dx);
            }
        }
    }
}
