//! The one place where a layer's input meets a weight: `y = x W^T + b`, forward and backward, with the
//! low-rank updates of adapters. Dense and quantized weights are used here, and nowhere else.

use parlor_kernels::linear::{self, Layer, Shape};
use parlor_kernels::{View, Write};

use super::gradients::Gradients;
use super::layers::{InputGradient, LinearLayer, OutputGradient};
use super::pass::Pass;
use super::{dora, low_rank};

/// Whether the gradients of one of the layers, or of its adapters, need the layers' input.
pub(crate) fn needs_input(pass: &Pass<'_>, layers: &[LinearLayer], gradients: &Gradients) -> bool {
    let trained = |id| gradients.view(id).is_some();
    layers.iter().any(|linear| trained(pass.resolve(linear.weight)) || pass.low_rank(linear).next().is_some())
}

/// A layer, and where its output goes.
pub(crate) struct LinearOutput<'a> {
    pub(crate) linear: LinearLayer,
    /// `[rows, outputs]`.
    pub(crate) y: &'a mut [f32],
    /// What the output is added to, of the same shape.
    pub(crate) base: Option<&'a [f32]>,
}

impl<'a> LinearOutput<'a> {
    pub(crate) fn new(linear: LinearLayer, y: &'a mut [f32]) -> Self {
        Self { linear, y, base: None }
    }
}

/// `y = base + x W^T + b` for `x` `[rows, inputs]`; `y` and `base` `[rows, outputs]`.
pub(crate) fn forward(pass: &Pass<'_>, linear: LinearLayer, x: View<'_>, base: &[f32], y: &mut [f32]) {
    forward_all(pass, x, &mut [LinearOutput { linear, y, base: Some(base) }]);
}

/// [`forward`] of layers that share their input, which is prepared for their products once.
pub(crate) fn forward_all(pass: &Pass<'_>, x: View<'_>, layers: &mut [LinearOutput<'_>]) {
    let Some(inputs) = layers.first().map(|output| output.linear.inputs) else { return };
    let rows = x.len() / inputs;
    // DoRA's layers are computed apart.
    let plain = layers.iter().map(|output| &output.linear).filter(|linear| !dora::applies(pass, linear));
    let projections = low_rank::project(pass, x, plain);
    let mut products = Vec::with_capacity(layers.len());
    let mut outputs = 0;
    for LinearOutput { linear, y, base } in layers.iter_mut() {
        if dora::applies(pass, linear) {
            if let Some(base) = base {
                y.copy_from_slice(base);
            }
            let write = if base.is_some() { Write::Accumulate } else { Write::Replace };
            dora::forward(pass, linear, &x.widened(), y, write);
        } else {
            outputs += linear.outputs;
            let bias = linear.bias.map(|id| pass.vector(id));
            let weight = pass.weight(linear.weight);
            let beside = low_rank::fused(pass, &projections, linear);
            products.push(Layer { weight, bias, y, write: Write::Replace, addend: *base, low_rank: beside });
        }
    }
    let shape = Shape { rows, inputs, outputs, arithmetic: pass.arithmetic };
    linear::forward_all(x, shape, &mut products);
    for LinearOutput { linear, y, .. } in
        layers.iter_mut().filter(|output| !dora::applies(pass, &output.linear))
    {
        low_rank::add(pass, &projections, linear, y);
    }
}

/// `dx (+)= dy W`, and the parameters' gradients from the forward pass's input `x`.
pub(crate) fn backward(
    pass: &Pass<'_>,
    output: OutputGradient<'_>,
    x: View<'_>,
    dx: InputGradient<'_>,
    gradients: &mut Gradients,
) {
    backward_all(pass, x, &[output], dx, gradients);
}

/// [`backward`] of layers that share their input, whose gradient is the sum of theirs. `x` is read only where
/// [`needs_input`] says so.
pub(crate) fn backward_all(
    pass: &Pass<'_>,
    x: View<'_>,
    layers: &[OutputGradient<'_>],
    mut dx: InputGradient<'_>,
    gradients: &mut Gradients,
) {
    let Some(first) = layers.first() else { return };
    let (inputs, rows) = (first.linear.inputs, first.dy.len() / first.linear.outputs);
    // DoRA's layers are computed apart, other adapters of the same layer included.
    let plain: Vec<_> =
        layers.iter().filter(|output| !dora::applies(pass, &output.linear)).copied().collect();
    let mut projections = low_rank::project(pass, x, plain.iter().map(|output| &output.linear));
    low_rank::gradients_of_b(pass, &mut projections, &plain, gradients);
    let mut of_weights = Vec::with_capacity(layers.len());
    for output in layers {
        let OutputGradient { linear, dy } = output;
        if let Some(gradient) = linear.bias.and_then(|bias| gradients.get_mut(pass.resolve(bias))) {
            linear::backward_bias(*dy, gradient);
        }
        let to = dx.as_mut().map(|(dx, write)| (&mut **dx, std::mem::replace(write, Write::Accumulate)));
        if dora::applies(pass, linear) {
            dora::backward(pass, *output, &x.widened(), to, gradients);
            continue;
        }
        let id = pass.resolve(linear.weight);
        of_weights.extend(gradients.take_to_fill(id).map(|gradient| (id, *dy, gradient)));
        if let Some((dx, write)) = to {
            let fused = low_rank::fused_backward(pass, &mut projections, linear);
            let (shape, weight) = (linear.shape(pass.arithmetic, rows), pass.weight(linear.weight));
            linear::backward_input_low_rank(*dy, (weight, fused), dx, write, shape);
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
    low_rank::gradients_of_a(pass, &mut projections, x, dx.map(|(dx, _)| dx), gradients);
}
