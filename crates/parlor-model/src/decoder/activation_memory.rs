//! How much memory passes take: the sizes of all buffers of [`Workspace`], in one table.
//!
//! The table forecasts the memory of a run, and reserves the buffers of a pass before it begins, so that
//! running out of memory is an error before anything is computed. Leaves out: what kernels allocate within an
//! operation, except the chunk of logits and some headroom.

use parlor_kernels::{Arithmetic, DType, Values, cross_entropy};

use super::error::DecoderError;
use super::network::Decoder;
use super::options::Checkpointing;
use super::workspace::{BlockActivations, HeadActivations, LayerInputs, Scratch, Workspace};
use crate::config::{DecoderConfig, Norm, QkNorm};

/// Size of a pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PassSize {
    /// Tokens in the batch.
    pub tokens: usize,
    /// Rows with a target.
    pub rows: usize,
}

impl PassSize {
    /// The larger of each number.
    pub fn max(self, other: Self) -> Self {
        Self { tokens: self.tokens.max(other.tokens), rows: self.rows.max(other.rows) }
    }
}

/// Bytes that must be free in addition to activations and logits when a pass begins.
const HEADROOM: usize = 32 << 20;

/// A buffer of a pass.
enum Buffer<'a> {
    Plain(&'a mut Vec<f32>),
    /// Inputs of matrix products, in the format that these read.
    Inputs(&'a mut Values),
}

impl Buffer<'_> {
    /// Bytes of so many elements, and how many of them are not allocated yet.
    fn bytes(&self, arithmetic: Arithmetic, elements: usize) -> (usize, usize) {
        let (dtype, capacity) = match self {
            Buffer::Plain(buffer) => (DType::F32, buffer.capacity()),
            Buffer::Inputs(buffer) => (Values::dtype_of(arithmetic), buffer.capacity(arithmetic)),
        };
        (dtype.bytes(elements), dtype.bytes(elements.saturating_sub(capacity)))
    }

    /// Reserves memory for so many elements; false when the system refuses.
    fn reserve(self, arithmetic: Arithmetic, elements: usize) -> bool {
        match self {
            Buffer::Plain(buffer) => buffer.try_reserve_exact(elements.saturating_sub(buffer.len())).is_ok(),
            Buffer::Inputs(buffer) => buffer.try_reserve(arithmetic, elements).is_ok(),
        }
    }
}

/// A buffer, and the elements that it must hold.
type Visit<'v> = dyn FnMut(Buffer<'_>, usize) + 'v;

/// What a pass keeps, and in which number format.
#[derive(Clone, Copy, Debug)]
pub struct PassKind {
    /// Of the products.
    pub arithmetic: Arithmetic,
    /// How the backward pass gets its activations; `None` without a backward pass.
    pub backward: Option<Checkpointing>,
    /// Whether the inputs of linear layers are kept.
    pub keeps_inputs: bool,
}

impl PassKind {
    /// The kind of a pass over `decoder`.
    pub fn of(decoder: &Decoder, arithmetic: Arithmetic, backward: Option<Checkpointing>) -> Self {
        Self { arithmetic, backward, keeps_inputs: decoder.keeps_inputs(arithmetic) }
    }
}

/// Visits every buffer of a pass with the number of elements that it must hold.
struct Buffers<'a, 'v> {
    config: &'a DecoderConfig,
    kind: PassKind,
    size: PassSize,
    visit: &'a mut Visit<'v>,
}

impl Buffers<'_, '_> {
    fn plain(&mut self, buffer: &mut Vec<f32>, elements: usize) {
        (self.visit)(Buffer::Plain(buffer), elements);
    }

    fn layer_inputs(&mut self, inputs: &mut LayerInputs) {
        let (hidden, inner) = (self.config.hidden_size, self.config.intermediate_size);
        for (buffer, width) in
            [(&mut inputs.attention, hidden), (&mut inputs.mlp, hidden), (&mut inputs.down, inner)]
        {
            (self.visit)(Buffer::Inputs(buffer), self.size.tokens * width);
        }
    }

    fn block(&mut self, block: &mut BlockActivations) {
        let (config, tokens) = (self.config, self.size.tokens);
        let (q, kv, inner) = (config.query_size(), config.key_value_size(), config.intermediate_size);
        if self.kind.keeps_inputs {
            self.layer_inputs(&mut block.inputs);
        }
        for (buffer, width) in [
            (&mut block.x, config.hidden_size),
            (&mut block.q, q),
            (&mut block.k, kv),
            (&mut block.v, kv),
            (&mut block.attention, q),
            (&mut block.lse, config.num_attention_heads),
            (&mut block.post_attention, config.hidden_size),
        ] {
            self.plain(buffer, tokens * width);
        }
        (self.visit)(Buffer::Inputs(&mut block.up), tokens * inner);
        if config.has_gated_mlp() {
            (self.visit)(Buffer::Inputs(&mut block.gate), tokens * inner);
        }
        if config.qk_norm == QkNorm::PerHead {
            self.plain(&mut block.raw_q, tokens * q);
            self.plain(&mut block.raw_k, tokens * kv);
            self.plain(&mut block.q_norm.inverse_rms, tokens * config.num_attention_heads);
            self.plain(&mut block.k_norm.inverse_rms, tokens * config.num_key_value_heads);
        }
        if matches!(config.norm, Norm::Rms { .. }) {
            self.plain(&mut block.input_norm.inverse_rms, tokens);
            self.plain(&mut block.mlp_norm.inverse_rms, tokens);
        }
    }

    fn scratch(&mut self, scratch: &mut Scratch) {
        let (config, PassSize { tokens, rows }) = (self.config, self.size);
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let (q, kv) = (config.query_size(), config.key_value_size());
        if !self.kind.keeps_inputs {
            self.layer_inputs(&mut scratch.inputs);
        }
        if self.kind.arithmetic == Arithmetic::Bf16 {
            self.plain(&mut scratch.raw_up, tokens * inner);
            if config.has_gated_mlp() {
                self.plain(&mut scratch.raw_gate, tokens * inner);
            }
        }
        if self.kind.backward.is_some() {
            self.plain(&mut scratch.d_normed, tokens.max(rows) * hidden);
            self.plain(&mut scratch.d_attention, (tokens * q).max(rows * hidden));
            self.plain(&mut scratch.dq, tokens * q);
            self.plain(&mut scratch.dk, tokens * kv);
            self.plain(&mut scratch.dv, tokens * kv);
            self.plain(&mut scratch.d_raw, tokens * inner.max(q));
        }
    }

    fn head(&mut self, head: &mut HeadActivations) {
        let (hidden, rows) = (self.config.hidden_size, self.size.rows);
        self.plain(&mut head.x, rows * hidden);
        self.plain(&mut head.normed, rows * hidden);
        self.plain(&mut head.lse, rows);
        if self.kind.backward.is_some() {
            self.plain(&mut head.head_gradient, rows * hidden);
        }
    }

    fn all(&mut self, workspace: &mut Workspace) {
        let layers = self.config.num_hidden_layers();
        let stream = self.size.tokens * self.config.hidden_size;
        let group = self.kind.backward.and_then(Checkpointing::group);
        let kept = match (self.kind.backward, group) {
            (None, _) => 1,
            (Some(_), None) => layers,
            (Some(_), Some(group)) => group.min(layers),
        };
        workspace.blocks.resize_with(workspace.blocks.len().max(kept), BlockActivations::default);
        for block in &mut workspace.blocks[..kept] {
            self.block(block);
        }
        if let Some(group) = group {
            let groups = layers.div_ceil(group);
            workspace.group_inputs.resize_with(workspace.group_inputs.len().max(groups), Vec::new);
            for input in &mut workspace.group_inputs[..groups] {
                self.plain(input, stream);
            }
            self.plain(&mut workspace.recompute, stream);
        }
        self.plain(&mut workspace.stream, stream);
        self.scratch(&mut workspace.scratch);
        self.head(&mut workspace.head);
    }
}

impl Workspace {
    /// Gives all memory back.
    pub fn release(&mut self) {
        *self = Self { arithmetic: self.arithmetic, free_memory: self.free_memory, ..Self::default() };
    }

    /// Reserves the memory of a pass. Systems promise more memory than they have and end the process that
    /// uses it, so growing first asks what is left; an allocation that the system refuses is the second line
    /// of defence.
    ///
    /// # Errors
    /// [`DecoderError::OutOfMemory`]; the buffers stay as they were.
    pub(crate) fn reserve(
        &mut self,
        config: &DecoderConfig,
        kind: PassKind,
        size: PassSize,
    ) -> Result<(), DecoderError> {
        let (mut needed, mut growth) = (0, 0);
        let visit: &mut Visit<'_> = &mut |buffer, elements| {
            let (all, more) = buffer.bytes(kind.arithmetic, elements);
            needed += all;
            growth += more;
        };
        Buffers { config, kind, size, visit }.all(self);
        if growth == 0 {
            return Ok(());
        }
        let refusal = DecoderError::OutOfMemory { tokens: size.tokens, bytes: needed as u64 };
        // What operations allocate for themselves cannot fail in order: it must fit as well.
        let of_operations = cross_entropy::tile_bytes(config.vocab_size, size.rows) + HEADROOM;
        if (self.free_memory.0)().is_some_and(|left| left < (growth + of_operations) as u64) {
            return Err(refusal);
        }
        let mut refused = false;
        let visit: &mut Visit<'_> = &mut |buffer, elements| {
            refused |= !buffer.reserve(kind.arithmetic, elements);
        };
        Buffers { config, kind, size, visit }.all(self);
        refused |= Vec::<u8>::new().try_reserve_exact(of_operations).is_err();
        if refused { Err(refusal) } else { Ok(()) }
    }
}

/// Bytes of the activations and scratch of training passes of at most `train`, and evaluation passes of at
/// most `eval`.
pub fn activation_bytes(
    config: &DecoderConfig,
    kind: PassKind,
    train: PassSize,
    eval: Option<PassSize>,
) -> u64 {
    // Both use the same buffers, so each buffer counts with the larger of its sizes.
    let bytes = |size: PassSize, kind: PassKind| {
        let mut sum = 0;
        let visit: &mut Visit<'_> = &mut |buffer, elements| sum += buffer.bytes(kind.arithmetic, elements).0;
        Buffers { config, kind, size, visit }.all(&mut Workspace::default());
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
