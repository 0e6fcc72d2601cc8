//! The attention half of a block, forward and backward: norm, queries, keys and values, rotation, attention,
//! output.
//!
//! Source: `LlamaAttention` and `Qwen3Attention` in transformers, whose order of operations it follows.

use parlor_kernels::attention::{self, KeyValues};
use parlor_kernels::{View, Write, norm as kernel_norm, rope};

use super::block_context::BlockContext;
use super::gradients::Gradients;
use super::layers::{OutputGradient, QkNormLayers};
use super::linear::{self, LinearOutput};
use super::norm::{self, NormBackward};
use super::parameters::ParameterId;
use super::pass::Pass;
use super::workspace::{BlockActivations, BlockBackward, LayerInputs, NormStats, resized, zeroed};

/// From `activations.x`, the residual stream before the block, to `activations.post_attention`.
pub(crate) fn forward(
    context: &BlockContext<'_>,
    activations: &mut BlockActivations,
    inputs: &mut LayerInputs,
) {
    let (pass, config, layers) = (context.pass, context.config(), context.layers());
    let rows = context.batch.len();
    let (query_size, kv_size) = (config.query_size(), config.key_value_size());
    normalise(context, &activations.x, &mut activations.input_norm, inputs);
    linear::forward_all(
        pass,
        inputs.attention.view(),
        &mut [
            LinearOutput::new(layers.q, resized(&mut activations.q, rows * query_size)),
            LinearOutput::new(layers.k, resized(&mut activations.k, rows * kv_size)),
            LinearOutput::new(layers.v, resized(&mut activations.v, rows * kv_size)),
        ],
    );
    if let Some(QkNormLayers { eps, q, k }) = layers.qk_norm {
        let heads = |weight| HeadNorm { pass, weight, eps };
        heads(q).forward(&mut activations.q, &mut activations.raw_q, &mut activations.q_norm);
        heads(k).forward(&mut activations.k, &mut activations.raw_k, &mut activations.k_norm);
    }
    if let Some(angles) = context.rotation() {
        rope::apply(&mut activations.q, config.num_attention_heads, angles, rope::Direction::Forward);
        rope::apply(&mut activations.k, config.num_key_value_heads, angles, rope::Direction::Forward);
    }
    attention::forward(
        (&context.geometry(), context.attention_arithmetic()),
        &activations.q,
        KeyValues { keys: &activations.k, values: &activations.v },
        &context.segments(),
        resized(&mut activations.attention, rows * query_size),
        resized(&mut activations.lse, rows * config.num_attention_heads),
    );
    let post_attention = resized(&mut activations.post_attention, activations.x.len());
    linear::forward(pass, layers.o, View::F32(&activations.attention), &activations.x, post_attention);
}

/// Turns the gradient of the stream after attention, in `state.d_stream`, into that of the block's input, in
/// place. Without `needs_input` it stops at the linear layers' weights.
pub(crate) fn backward(context: &BlockContext<'_>, needs_input: bool, state: &mut BlockBackward<'_>) {
    let (pass, config, layers) = (context.pass, context.config(), context.layers());
    let rows = context.batch.len();
    let (query_size, kv_size) = (config.query_size(), config.key_value_size());
    let mut inputs = state.take_inputs(context.keeps_inputs());
    let BlockBackward { activations, scratch, d_stream, gradients } = state;

    let d_attention = resized(&mut scratch.d_attention, rows * query_size);
    linear::backward(
        pass,
        OutputGradient { linear: layers.o, dy: View::F32(d_stream) },
        View::F32(&activations.attention),
        Some((d_attention, Write::Replace)),
        gradients,
    );
    let (dq, dk, dv) = (
        resized(&mut scratch.dq, rows * query_size),
        zeroed(&mut scratch.dk, rows * kv_size),
        zeroed(&mut scratch.dv, rows * kv_size),
    );
    attention::backward(
        (&context.geometry(), context.attention_arithmetic()),
        attention::ForwardResults {
            q: &activations.q,
            kv: KeyValues { keys: &activations.k, values: &activations.v },
            out: &activations.attention,
            lse: &activations.lse,
        },
        &context.segments(),
        d_attention,
        attention::Gradients { dq, dk, dv },
    );
    if let Some(angles) = context.rotation() {
        rope::apply(dq, config.num_attention_heads, angles, rope::Direction::Backward);
        rope::apply(dk, config.num_key_value_heads, angles, rope::Direction::Backward);
    }
    if let Some(QkNormLayers { eps, q, k }) = layers.qk_norm {
        let heads = |weight| HeadNorm { pass, weight, eps };
        heads(q).backward(
            &activations.raw_q,
            &activations.q_norm,
            gradients,
            &mut scratch.dq,
            &mut scratch.d_raw,
        );
        heads(k).backward(
            &activations.raw_k,
            &activations.k_norm,
            gradients,
            &mut scratch.dk,
            &mut scratch.d_raw,
        );
    }

    if !context.keeps_inputs() && linear::needs_input(pass, &[layers.q, layers.k, layers.v], gradients) {
        normalise(context, &activations.x, &mut activations.input_norm, &mut inputs);
    }
    let d_normed = resized(&mut scratch.d_normed, activations.x.len());
    let outputs = [
        OutputGradient { linear: layers.q, dy: View::F32(&scratch.dq) },
        OutputGradient { linear: layers.k, dy: View::F32(&scratch.dk) },
        OutputGradient { linear: layers.v, dy: View::F32(&scratch.dv) },
    ];
    let dx = needs_input.then_some((&mut *d_normed, Write::Replace));
    linear::backward_all(pass, inputs.attention.view(), &outputs, dx, gradients);
    if needs_input {
        let values =
            NormBackward { x: &activations.x, stats: &activations.input_norm, dy: d_normed, dx: d_stream };
        norm::backward(pass, layers.input_norm, values, gradients);
    }
    state.put_inputs(context.keeps_inputs(), inputs);
}

/// The input of queries, keys and values: the stream, normalised.
fn normalise(context: &BlockContext<'_>, x: &[f32], stats: &mut NormStats, inputs: &mut LayerInputs) {
    let out = inputs.attention.resized(context.pass.arithmetic, x.len());
    norm::forward(context.pass, context.layers().input_norm, x, out, stats);
}

/// The RMS norm of every head of queries or keys.
struct HeadNorm<'a> {
    pass: &'a Pass<'a>,
    weight: ParameterId,
    eps: f32,
}

impl HeadNorm<'_> {
    /// Normalises every head of `x` in place, and keeps the input in `raw`.
    fn forward(&self, x: &mut Vec<f32>, raw: &mut Vec<f32>, stats: &mut NormStats) {
        std::mem::swap(x, raw);
        let weight = self.pass.vector(self.weight);
        let heads = raw.len() / weight.len();
        let inverse_rms = resized(&mut stats.inverse_rms, heads);
        kernel_norm::rms_forward(raw, weight, self.eps, resized(x, raw.len()), inverse_rms);
    }

    /// Turns the gradient `d` of normalised heads into that of the raw ones, in place.
    fn backward(
        &self,
        raw: &[f32],
        stats: &NormStats,
        gradients: &mut Gradients,
        d: &mut Vec<f32>,
        d_raw: &mut Vec<f32>,
    ) {
        let out = zeroed(d_raw, d.len());
        let d_weight = gradients.get_mut(self.pass.resolve(self.weight));
        kernel_norm::rms_backward(raw, self.pass.vector(self.weight), &stats.inverse_rms, d, out, d_weight);
        std::mem::swap(d, d_raw);
    }
}
