//! The MLP half of a block, forward and backward: norm, gate and up, activation, down.
//!
//! Source: `LlamaMLP` and `GPT2MLP` in transformers, whose order of operations it follows.

use parlor_kernels::{Arithmetic, Values, ValuesMut, View, Write, activation};

use super::block_context::BlockContext;
use super::layers::OutputGradient;
use super::linear::{self, LinearOutput};
use super::norm::{self, NormBackward};
use super::workspace::{BlockActivations, BlockBackward, LayerInputs, NormStats, Scratch, resized};

/// From `activations.post_attention` to the residual stream after the block, into `stream`.
pub(crate) fn forward(
    context: &BlockContext<'_>,
    activations: &mut BlockActivations,
    inputs: &mut LayerInputs,
    scratch: &mut Scratch,
    stream: &mut Vec<f32>,
) {
    normalise(context, &activations.post_attention, &mut activations.mlp_norm, inputs);
    gate_and_up(context, inputs.mlp.view(), activations, scratch);
    activate(context, &activations.gate, &activations.up, &mut inputs.down);
    let out = resized(stream, activations.post_attention.len());
    let down = context.layers().mlp.down;
    linear::forward(context.pass, down, inputs.down.view(), &activations.post_attention, out);
}

/// Turns the gradient of the block's output, in `state.d_stream`, into that of the stream after attention, in
/// place.
pub(crate) fn backward(context: &BlockContext<'_>, state: &mut BlockBackward<'_>) {
    let (pass, layers) = (context.pass, context.layers());
    let keeps_inputs = context.keeps_inputs();
    let mut inputs = state.take_inputs(keeps_inputs);
    let BlockBackward { activations, scratch, d_stream, gradients } = state;
    let mlp = layers.mlp;
    if !keeps_inputs && linear::needs_input(pass, &[mlp.down], gradients) {
        activate(context, &activations.gate, &activations.up, &mut inputs.down);
    }
    let d_inner = resized(&mut scratch.d_raw, activations.up.len());
    let dx = Some((&mut *d_inner, Write::Replace));
    let output = OutputGradient { linear: mlp.down, dy: View::F32(d_stream) };
    linear::backward(pass, output, inputs.down.view(), dx, gradients);
    match mlp.gate {
        Some(_) => {
            let (gate, up) = (activations.gate.view_mut(), activations.up.view_mut());
            activation::gated_backward(mlp.activation, gate, up, d_inner);
        }
        None => activation::backward(mlp.activation, activations.up.view_mut(), d_inner),
    }
    let up = OutputGradient { linear: mlp.up, dy: activations.up.view() };
    let gate = mlp.gate.map(|linear| OutputGradient { linear, dy: activations.gate.view() });
    let both = gate.map(|gate| [up, gate]);
    let outputs = both.as_ref().map_or(std::slice::from_ref(&up), |both| &both[..]);
    let linears: Vec<_> = outputs.iter().map(|output| output.linear).collect();
    if !keeps_inputs && linear::needs_input(pass, &linears, gradients) {
        normalise(context, &activations.post_attention, &mut activations.mlp_norm, &mut inputs);
    }
    let d_normed = resized(&mut scratch.d_normed, activations.post_attention.len());
    let dx = Some((&mut *d_normed, Write::Replace));
    linear::backward_all(pass, inputs.mlp.view(), outputs, dx, gradients);
    let values = NormBackward {
        x: &activations.post_attention,
        stats: &activations.mlp_norm,
        dy: d_normed,
        dx: d_stream,
    };
    norm::backward(pass, layers.mlp_norm, values, gradients);
    state.put_inputs(keeps_inputs, inputs);
}

/// The input of gate and up: the stream after attention, normalised.
fn normalise(context: &BlockContext<'_>, x: &[f32], stats: &mut NormStats, inputs: &mut LayerInputs) {
    let out = inputs.mlp.resized(context.pass.arithmetic, x.len());
    norm::forward(context.pass, context.layers().mlp_norm, x, out, stats);
}

/// Gate and up, from the normalised stream.
fn gate_and_up(
    context: &BlockContext<'_>,
    input: View<'_>,
    activations: &mut BlockActivations,
    scratch: &mut Scratch,
) {
    let (pass, mlp, config) = (context.pass, context.layers().mlp, context.config());
    let len = input.len() / config.hidden_size * config.intermediate_size;
    let up = activations.up.resized(pass.arithmetic, len);
    let gate = activations.gate.resized(pass.arithmetic, mlp.gate.map_or(0, |_| len));
    let (up, gate) = match (up, gate) {
        (ValuesMut::F32(up), ValuesMut::F32(gate)) => (up, gate),
        _ => (resized(&mut scratch.raw_up, len), resized(&mut scratch.raw_gate, len)),
    };
    let mut outputs = vec![LinearOutput::new(mlp.up, up)];
    outputs.extend(mlp.gate.map(|linear| LinearOutput::new(linear, gate)));
    linear::forward_all(pass, input, &mut outputs);
    if pass.arithmetic == Arithmetic::Bf16 {
        activations.up.round(&scratch.raw_up);
        if mlp.gate.is_some() {
            activations.gate.round(&scratch.raw_gate);
        }
    }
}

/// `act(gate) * up`, or `act(up)` without a gate, into `out`.
fn activate(context: &BlockContext<'_>, gate: &Values, up: &Values, out: &mut Values) {
    let mlp = context.layers().mlp;
    let out = out.resized(context.pass.arithmetic, up.len());
    match mlp.gate {
        Some(_) => activation::gated_forward(mlp.activation, gate.view(), up.view(), out),
        None => activation::forward(mlp.activation, up.view(), out),
    }
}
