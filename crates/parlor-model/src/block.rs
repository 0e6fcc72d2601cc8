//! One block, forward: the residual stream before it to that after it.
//!
//! Source: `LlamaDecoderLayer`, `Qwen3Attention` and `GPT2Block` in transformers, whose order of operations it follows.

use parlor_kernels::attention::{self, Geometry, KeyValues, Source, Span};
use parlor_kernels::{Arithmetic, Values, ValuesMut, View, activation, norm as rms, rope};

use crate::batch::{Batch, Context};
use crate::cache::KvCache;
use crate::decoder::{Block, Decoder};
use crate::decoder_config::{Activation, Mlp, Norm};
use crate::linear::forward_all;
use crate::norm;
use crate::pass::Pass;
use crate::saved::{BlockSaved, LayerInputs, NormSaved, Scratch, room};

impl Decoder {
    /// One block: takes the stream before it from `stream` and keeps it, and leaves the stream after it there.
    pub(crate) fn block(
        &self,
        block: &Block,
        context: &BlockContext<'_>,
        saved: &mut BlockSaved,
        scratch: &mut Scratch,
        stream: &mut Vec<f32>,
    ) {
        // The stream's buffer becomes the kept one; its own is filled anew at the end.
        std::mem::swap(&mut saved.x, stream);
        let (pass, config) = (context.pass, &self.config);
        let rows = context.batch.len();
        let (query_size, kv_size) = (config.query_size(), config.key_value_size());
        let kept = self.keeps_inputs(pass.arithmetic);
        let mut inputs = std::mem::take(if kept { &mut saved.inputs } else { &mut scratch.inputs });
        self.attention_input(pass, block, (&saved.x, &mut saved.input_norm), &mut inputs);
        let layers = &mut [
            (block.q, room(&mut saved.q, rows * query_size), None),
            (block.k, room(&mut saved.k, rows * kv_size), None),
            (block.v, room(&mut saved.v, rows * kv_size), None),
        ];
        forward_all(pass, inputs.attention.view(), layers);
        if let (Some(q_norm), Some(k_norm)) = (block.q_norm, block.k_norm) {
            self.head_norm(pass, q_norm, &mut saved.q, &mut saved.raw_q, &mut saved.q_norm);
            self.head_norm(pass, k_norm, &mut saved.k, &mut saved.raw_k, &mut saved.k_norm);
        }
        rope::apply(&mut saved.q, config.num_attention_heads, context.angles, rope::Direction::Forward);
        rope::apply(&mut saved.k, config.num_key_value_heads, context.angles, rope::Direction::Forward);
        let kv = KeyValues { keys: &saved.k, values: &saved.v };
        attention::forward(
            (&self.geometry(context.layer), self.attention_arithmetic(pass)),
            &saved.q,
            kv,
            &segments(context.batch, context.cache, context.layer),
            room(&mut saved.attention, rows * query_size),
            room(&mut saved.lse, rows * config.num_attention_heads),
        );
        let middle = room(&mut saved.middle, saved.x.len());
        block.o.forward(pass, View::F32(&saved.attention), &saved.x, middle);
        self.mlp_input(pass, block, (&saved.middle, &mut saved.mlp_norm), &mut inputs);
        self.gate_and_up(pass, block, inputs.mlp.view(), saved, scratch);
        self.mlp_product(pass, (&saved.gate, &saved.up), &mut inputs.down);
        block.down.forward(pass, inputs.down.view(), &saved.middle, room(stream, saved.middle.len()));
        *(if kept { &mut saved.inputs } else { &mut scratch.inputs }) = inputs;
    }

    /// Whether the inputs of linear layers are kept for the backward pass, which needs them for the weights' gradients. As bf16
    /// they are small beside what is kept anyway; as f32 they are cheaper to compute again.
    pub(crate) fn keeps_inputs(&self, arithmetic: Arithmetic) -> bool {
        let down = self.blocks.first().map(|block| block.down.weight);
        arithmetic == Arithmetic::Bf16 && down.is_some_and(|weight| self.is_trained(weight))
    }

    /// The input of queries, keys and values: the stream, normalised.
    pub(crate) fn attention_input(
        &self,
        pass: &Pass<'_>,
        block: &Block,
        (x, saved): (&[f32], &mut NormSaved),
        inputs: &mut LayerInputs,
    ) {
        norm::forward(pass, block.input_norm, x, inputs.attention.resized(pass.arithmetic, x.len()), saved);
    }

    /// The input of gate and up: the stream after attention, normalised.
    pub(crate) fn mlp_input(
        &self,
        pass: &Pass<'_>,
        block: &Block,
        (middle, saved): (&[f32], &mut NormSaved),
        inputs: &mut LayerInputs,
    ) {
        norm::forward(pass, block.mlp_norm, middle, inputs.mlp.resized(pass.arithmetic, middle.len()), saved);
    }

    /// Gate and up, from the normalised stream.
    fn gate_and_up(
        &self,
        pass: &Pass<'_>,
        block: &Block,
        input: View<'_>,
        saved: &mut BlockSaved,
        scratch: &mut Scratch,
    ) {
        let len = input.len() / self.config.hidden_size * self.config.intermediate_size;
        let up = saved.up.resized(pass.arithmetic, len);
        let gate = saved.gate.resized(pass.arithmetic, block.gate.map_or(0, |_| len));
        let (up, gate) = match (up, gate) {
            (ValuesMut::F32(up), ValuesMut::F32(gate)) => (up, gate),
            _ => (room(&mut scratch.raw_up, len), room(&mut scratch.raw_gate, len)),
        };
        let mut layers = vec![(block.up, up, None)];
        if let Some(linear) = block.gate {
            layers.push((linear, gate, None));
        }
        forward_all(pass, input, &mut layers);
        if pass.arithmetic == Arithmetic::Bf16 {
            saved.up.round(&scratch.raw_up);
            if block.gate.is_some() {
                saved.gate.round(&scratch.raw_gate);
            }
        }
    }

    /// `act(gate) * up`, or `act(up)`, into `out`.
    pub(crate) fn mlp_product(&self, pass: &Pass<'_>, (gate, up): (&Values, &Values), out: &mut Values) {
        let out = out.resized(pass.arithmetic, up.len());
        match self.config.mlp {
            Mlp::Gated(kind) => activation::gated_forward(kernel(kind), gate.view(), up.view(), out),
            Mlp::Plain(kind) => activation::forward(kernel(kind), up.view(), out),
        }
    }

    /// Normalises every head of `x` in place, keeping the input in `raw`.
    fn head_norm(
        &self,
        pass: &Pass<'_>,
        weight: usize,
        x: &mut Vec<f32>,
        raw: &mut Vec<f32>,
        saved: &mut NormSaved,
    ) {
        std::mem::swap(x, raw);
        let (weight, Norm::Rms { eps } | Norm::Layer { eps }) = (pass.vector(weight), self.config.norm);
        let heads = raw.len() / weight.len();
        rms::rms_forward(raw, weight, eps, room(x, raw.len()), room(&mut saved.inverse_rms, heads));
    }

    /// Precision of attention's products: bf16 where the weights are that or less, whose inputs are rounded as much or more.
    pub(crate) fn attention_arithmetic(&self, pass: &Pass<'_>) -> Arithmetic {
        let packed = self
            .blocks
            .first()
            .is_some_and(|block| matches!(self.parameters[block.q.weight].tensor.view(), View::Packed(_)));
        if packed { Arithmetic::Bf16 } else { pass.arithmetic }
    }

    pub(crate) fn geometry(&self, layer: usize) -> Geometry {
        Geometry {
            heads: self.config.num_attention_heads,
            kv_heads: self.config.num_key_value_heads,
            head_dim: self.config.head_dim,
            scale: 1.0 / (self.config.head_dim as f32).sqrt(),
            window: self.config.windows[layer],
        }
    }
}

/// What a block needs besides its own input.
pub(crate) struct BlockContext<'a> {
    pub(crate) pass: &'a Pass<'a>,
    pub(crate) batch: &'a Batch,
    pub(crate) angles: &'a rope::Angles,
    pub(crate) layer: usize,
    pub(crate) cache: Option<&'a KvCache>,
}

/// The batch's segments as attention sees them.
pub(crate) fn segments<'a>(
    batch: &Batch,
    cache: Option<&'a KvCache>,
    layer: usize,
) -> Vec<attention::Segment<'a>> {
    let segment = |segment: &crate::batch::Segment| {
        let mut spans = Vec::with_capacity(2);
        let mut context = segment.context;
        // Ancestors are collected from the nearest outwards, and put in order of position below.
        while let Context::Parent(parent) = context {
            let parent = &batch.segments[parent];
            spans.push(Span { source: Source::Rows(parent.rows.clone()), position: parent.start });
            context = parent.context;
        }
        if let (Context::Cache(sequence), Some(cache)) = (context, cache) {
            let slab = cache.slab(sequence, layer);
            let source = Source::Cache { keys: slab.keys.view(), values: slab.values.view() };
            spans.push(Span { source, position: 0 });
        }
        spans.reverse();
        spans.push(Span { source: Source::Rows(segment.rows.clone()), position: segment.start });
        attention::Segment { rows: segment.rows.clone(), position: segment.start, spans }
    };
    batch.segments.iter().map(segment).collect()
}

pub(crate) fn kernel(activation: Activation) -> activation::Activation {
    match activation {
        Activation::Silu => activation::Activation::Silu,
        Activation::GeluTanh => activation::Activation::GeluTanh,
    }
}
