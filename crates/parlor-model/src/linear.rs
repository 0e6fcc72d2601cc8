//! The one place where a layer's input meets a weight: `y = x W^T + b`, forward and backward, and the low-rank factors
//! of the adapters beside it. Quantized weights meet dense ones here too, and nowhere else.

use std::ops::Range;

use parlor_kernels::linear::{self, Layer, Shape};
use parlor_kernels::{View, Write};

use crate::decoder::ParameterId;
use crate::gradients::Gradients;
use crate::lora::factors;
use crate::parameter::Site;
use crate::pass::Pass;

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
    // DoRA's layers are computed apart.
    let projections = factors::project(
        pass,
        x,
        layers.iter().map(|(linear, ..)| linear).filter(|linear| !linear.is_dora(pass)),
    );
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
            let beside = factors::beside(pass, &projections, linear);
            plain.push(Layer { weight, bias, y, write: Write::Replace, base: *base, beside });
        }
    }
    let shape = Shape { rows, inputs, outputs, arithmetic: pass.arithmetic };
    linear::forward_all(x, shape, &mut plain);
    for (linear, y, _) in layers.iter_mut().filter(|(linear, ..)| !linear.is_dora(pass)) {
        factors::add(pass, &projections, linear, y);
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
    // DoRA's layers are computed apart, other adapters beside them included.
    let plain: Vec<_> = layers.iter().filter(|(linear, _)| !linear.is_dora(pass)).copied().collect();
    let mut projections = factors::project(pass, x, plain.iter().map(|(linear, _)| linear));
    factors::gradients_of_b(pass, &mut projections, &plain, gradients);
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
            let beside = factors::beside_backward(pass, &mut projections, linear);
            let (shape, weight) = (linear.shape(pass, rows), pass.weight(linear.weight));
            linear::backward_input_beside(*dy, (weight, beside), dx, write, shape);
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
    factors::gradients_of_a(pass, &mut projections, x, dx.map(|(dx, _)| dx), gradients);
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
}
