//! How much memory passes take: the sizes of all buffers of [`Workspace`], in one table that counts them beforehand and
//! reserves them before a pass, so that memory that runs out is an error before anything is computed.
//!
//! Leaves out: what kernels allocate within an operation, but for the chunk of logits and some headroom.

use parlor_kernels::{Arithmetic, DType, Values, cross_entropy};

use crate::checkpointing::Checkpointing;
use crate::decoder::{Decoder, DecoderError};
use crate::decoder_config::{DecoderConfig, Mlp, Norm, QkNorm};
use crate::workspace::{BlockActivations, HeadActivations, LayerInputs, Scratch, Workspace};

/// Size of a pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PassSize {
    /// Tokens in the batch.
    pub tokens: usize,
    /// Rows with a target.
    pub rows: usize,
}

impl PassSize {
    /// The larger of two, in each number.
    pub fn max(self, other: Self) -> Self {
        Self { tokens: self.tokens.max(other.tokens), rows: self.rows.max(other.rows) }
    }
}

/// Bytes that must be left beside activations and logits when a pass begins.
const HEADROOM: usize = 32 << 20;

/// A buffer of a pass.
enum Buffer<'a> {
    Plain(&'a mut Vec<f32>),
    /// Inputs of products.
    Inputs(&'a mut Values),
}

impl Buffer<'_> {
    /// Bytes of so many elements, and how many of them there are yet to be got.
    fn bytes(&self, arithmetic: Arithmetic, elements: usize) -> (usize, usize) {
        let (dtype, capacity) = match self {
            Buffer::Plain(buffer) => (DType::F32, buffer.capacity()),
            Buffer::Inputs(buffer) => (Values::dtype_of(arithmetic), buffer.capacity(arithmetic)),
        };
        (dtype.bytes(elements), dtype.bytes(elements.saturating_sub(capacity)))
    }

    /// Whether there is memory for so many elements, which then is reserved.
    fn reserve(self, arithmetic: Arithmetic, elements: usize) -> bool {
        match self {
            Buffer::Plain(buffer) => buffer.try_reserve_exact(elements.saturating_sub(buffer.len())).is_ok(),
            Buffer::Inputs(buffer) => buffer.try_reserve(arithmetic, elements).is_ok(),
        }
    }
}

/// A buffer, and the elements that it must hold.
type Visit<'v> = dyn FnMut(Buffer<'_>, usize) + 'v;

/// What a pass keeps, and in which precision.
#[derive(Clone, Copy, Debug)]
pub struct PassKind {
    /// Of the products.
    pub arithmetic: Arithmetic,
    /// How a backward pass gets its activations; none when there is no backward.
    pub backward: Option<Checkpointing>,
    /// Whether the inputs of linear layers are kept.
    pub keeps_inputs: bool,
}

impl PassKind {
    /// That of passes over `decoder`.
    pub fn of(decoder: &Decoder, arithmetic: Arithmetic, backward: Option<Checkpointing>) -> Self {
        Self { arithmetic, backward, keeps_inputs: decoder.keeps_inputs(arithmetic) }
    }
}

fn layer_inputs(inputs: &mut LayerInputs, config: &DecoderConfig, tokens: usize, visit: &mut Visit<'_>) {
    visit(Buffer::Inputs(&mut inputs.attention), tokens * config.hidden_size);
    visit(Buffer::Inputs(&mut inputs.mlp), tokens * config.hidden_size);
    visit(Buffer::Inputs(&mut inputs.down), tokens * config.intermediate_size);
}

fn block(
    saved: &mut BlockActivations,
    (config, kind): (&DecoderConfig, PassKind),
    tokens: usize,
    visit: &mut Visit<'_>,
) {
    if kind.keeps_inputs {
        layer_inputs(&mut saved.inputs, config, tokens, visit);
    }
    let (q, kv) = (config.query_size(), config.key_value_size());
    for (buffer, width) in [
        (&mut saved.x, config.hidden_size),
        (&mut saved.q, q),
        (&mut saved.k, kv),
        (&mut saved.v, kv),
        (&mut saved.attention, q),
        (&mut saved.lse, config.num_attention_heads),
        (&mut saved.post_attention, config.hidden_size),
    ] {
        visit(Buffer::Plain(buffer), tokens * width);
    }
    visit(Buffer::Inputs(&mut saved.up), tokens * config.intermediate_size);
    if matches!(config.mlp, Mlp::Gated(_)) {
        visit(Buffer::Inputs(&mut saved.gate), tokens * config.intermediate_size);
    }
    let mut visit = |buffer, elements| visit(Buffer::Plain(buffer), elements);
    if config.qk_norm == QkNorm::PerHead {
        visit(&mut saved.raw_q, tokens * q);
        visit(&mut saved.raw_k, tokens * kv);
        visit(&mut saved.q_norm.inverse_rms, tokens * config.num_attention_heads);
        visit(&mut saved.k_norm.inverse_rms, tokens * config.num_key_value_heads);
    }
    if matches!(config.norm, Norm::Rms { .. }) {
        visit(&mut saved.input_norm.inverse_rms, tokens);
        visit(&mut saved.mlp_norm.inverse_rms, tokens);
    }
}

fn scratch(
    scratch: &mut Scratch,
    (config, kind): (&DecoderConfig, PassKind),
    size: PassSize,
    visit: &mut Visit<'_>,
) {
    let (hidden, inner, tokens) = (config.hidden_size, config.intermediate_size, size.tokens);
    let (q, kv) = (config.query_size(), config.key_value_size());
    if !kind.keeps_inputs {
        layer_inputs(&mut scratch.inputs, config, tokens, visit);
    }
    let mut visit = |buffer, elements| visit(Buffer::Plain(buffer), elements);
    if kind.arithmetic == Arithmetic::Bf16 {
        visit(&mut scratch.raw_up, tokens * inner);
        if matches!(config.mlp, Mlp::Gated(_)) {
            visit(&mut scratch.raw_gate, tokens * inner);
        }
    }
    if kind.backward.is_some() {
        visit(&mut scratch.d_normed, tokens.max(size.rows) * hidden);
        visit(&mut scratch.d_attention, (tokens * q).max(size.rows * hidden));
        visit(&mut scratch.dq, tokens * q);
        visit(&mut scratch.dk, tokens * kv);
        visit(&mut scratch.dv, tokens * kv);
        visit(&mut scratch.d_raw, tokens * inner.max(q));
    }
}

fn head(
    head: &mut HeadActivations,
    config: &DecoderConfig,
    rows: usize,
    backward: bool,
    visit: &mut Visit<'_>,
) {
    let mut visit = |buffer, elements| visit(Buffer::Plain(buffer), elements);
    visit(&mut head.x, rows * config.hidden_size);
    visit(&mut head.normed, rows * config.hidden_size);
    visit(&mut head.lse, rows);
    if backward {
        visit(&mut head.head_gradient, rows * config.hidden_size);
    }
}

/// Every buffer of a pass.
fn each(
    saved: &mut Workspace,
    (config, kind): (&DecoderConfig, PassKind),
    size: PassSize,
    visit: &mut Visit<'_>,
) {
    let backward = kind.backward;
    let (layers, stream) = (config.num_hidden_layers, size.tokens * config.hidden_size);
    let group = backward.and_then(Checkpointing::group);
    let kept = match (backward, group) {
        (None, _) => 1,
        (Some(_), None) => layers,
        (Some(_), Some(group)) => group.min(layers),
    };
    saved.blocks.resize_with(saved.blocks.len().max(kept), BlockActivations::default);
    for kept in &mut saved.blocks[..kept] {
        block(kept, (config, kind), size.tokens, visit);
    }
    if let Some(group) = group {
        let groups = layers.div_ceil(group);
        saved.inputs.resize_with(saved.inputs.len().max(groups), Vec::new);
        for input in &mut saved.inputs[..groups] {
            visit(Buffer::Plain(input), stream);
        }
        visit(Buffer::Plain(&mut saved.recompute), stream);
    }
    visit(Buffer::Plain(&mut saved.stream), stream);
    scratch(&mut saved.scratch, (config, kind), size, visit);
    head(&mut saved.head, config, size.rows, backward.is_some(), visit);
}

impl Workspace {
    /// Gives all memory back.
    pub fn release(&mut self) {
        *self = Self {
            seed: self.seed,
            neftune_noise_alpha: self.neftune_noise_alpha,
            checkpointing: self.checkpointing,
            arithmetic: self.arithmetic,
            free_memory: self.free_memory,
            ..Self::default()
        };
    }

    /// Makes room for a pass. Systems promise more memory than they have and end the process that takes it, so growing
    /// first asks what is left; an allocation that the system refuses is the second line.
    ///
    /// # Errors
    /// [`DecoderError::OutOfMemory`], with what was already there intact.
    pub(crate) fn reserve(
        &mut self,
        config: &DecoderConfig,
        kind: PassKind,
        size: PassSize,
    ) -> Result<(), DecoderError> {
        let (mut needed, mut growth) = (0, 0);
        each(self, (config, kind), size, &mut |buffer, elements| {
            let (all, more) = buffer.bytes(kind.arithmetic, elements);
            needed += all;
            growth += more;
        });
        if growth == 0 {
            return Ok(());
        }
        let refusal = DecoderError::OutOfMemory { tokens: size.tokens, bytes: needed as u64 };
        // What operations allocate for themselves cannot fail in order: it must have room as well.
        let beside = cross_entropy::tile_bytes(config.vocab_size, size.rows) + HEADROOM;
        if (self.free_memory.0)().is_some_and(|left| left < (growth + beside) as u64) {
            return Err(refusal);
        }
        let mut refused = false;
        each(self, (config, kind), size, &mut |buffer, elements| {
            refused |= !buffer.reserve(kind.arithmetic, elements);
        });
        refused |= Vec::<u8>::new().try_reserve_exact(beside).is_err();
        if refused { Err(refusal) } else { Ok(()) }
    }
}

/// Bytes of the activations and scratch of training passes of at most `train`, and evaluation passes of at most `eval`.
pub fn activation_bytes(
    config: &DecoderConfig,
    kind: PassKind,
    train: PassSize,
    eval: Option<PassSize>,
) -> u64 {
    // Buffers are shared between the two, so each counts with the larger of its sizes.
    let bytes = |size: PassSize, kind: PassKind| {
        let (mut saved, mut sum) = (Workspace::default(), 0);
        each(&mut saved, (config, kind), size, &mut |buffer, elements| {
            sum += buffer.bytes(kind.arithmetic, elements).0;
        });
        sum
    };
    let training = bytes(train, kind);
    let Some(eval) = eval else { return training as u64 };
    let (larger, alone) = (train.max(eval), PassKind { backward: None, ..kind });
    (training + bytes(larger, alone) - bytes(train, alone)) as u64
}

/// Bytes of the logits that are held at once for `rows` rows with a target.
pub fn logits_bytes(config: &DecoderConfig, rows: usize) -> u64 {
    cross_entropy::tile_bytes(config.vocab_size, rows) as u64
}
