//! Buffers of a forward pass, reused from step to step: what the backward needs, and scratch.
//!
//! Kept per block: its input, rotated queries, keys and values, attention output, the middle of the residual
//! stream, gate and up. Norm outputs and the MLP's product are cheap and are computed again in the backward, unless they are
//! bf16 and the weights that read them are trained. What only products
//! read is kept as they read it ([`Values`]): where they round to bf16, rounded once.

use parlor_kernels::cross_entropy::Logits;
use parlor_kernels::norm::RowMoments;
use parlor_kernels::rope::Angles;
use parlor_kernels::{Arithmetic, Values};

use crate::checkpointing::Checkpointing;
use crate::memory::FreeMemory;

/// What a norm keeps per row.
#[derive(Clone, Debug, Default)]
pub(crate) struct NormSaved {
    pub(crate) inverse_rms: Vec<f32>,
    pub(crate) moments: Vec<RowMoments>,
}

/// The inputs of a block's linear layers, as the products read them.
#[derive(Clone, Debug, Default)]
pub(crate) struct LayerInputs {
    /// Of queries, keys and values.
    pub(crate) attention: Values,
    /// Of gate and up.
    pub(crate) mlp: Values,
    /// Of the layer down.
    pub(crate) down: Values,
}

/// What a block keeps.
#[derive(Clone, Debug, Default)]
pub(crate) struct BlockSaved {
    pub(crate) x: Vec<f32>,
    pub(crate) input_norm: NormSaved,
    /// Before their norm; only with query/key normalisation.
    pub(crate) raw_q: Vec<f32>,
    pub(crate) raw_k: Vec<f32>,
    pub(crate) q_norm: NormSaved,
    pub(crate) k_norm: NormSaved,
    pub(crate) q: Vec<f32>,
    pub(crate) k: Vec<f32>,
    pub(crate) v: Vec<f32>,
    pub(crate) attention: Vec<f32>,
    pub(crate) lse: Vec<f32>,
    pub(crate) middle: Vec<f32>,
    pub(crate) mlp_norm: NormSaved,
    pub(crate) gate: Values,
    pub(crate) up: Values,
    /// Only where they are not computed again (see `Decoder::keeps_inputs`).
    pub(crate) inputs: LayerInputs,
}

/// What the output head keeps, for the rows that are asked for only.
#[derive(Clone, Debug, Default)]
pub(crate) struct HeadSaved {
    pub(crate) rows: Vec<usize>,
    pub(crate) x: Vec<f32>,
    pub(crate) norm: NormSaved,
    pub(crate) normed: Vec<f32>,
    pub(crate) targets: Vec<u32>,
    pub(crate) lse: Vec<f32>,
    pub(crate) logits: Logits,
    /// Gradient of each row's log-probability by `normed`; empty unless the head is frozen and a backward follows.
    pub(crate) slope: Vec<f32>,
}

/// Buffers whose content does not outlive a block.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scratch {
    /// Where a block does not keep them.
    pub(crate) inputs: LayerInputs,
    /// Gate and up as the products leave them, where they are kept rounded.
    pub(crate) raw_gate: Vec<f32>,
    pub(crate) raw_up: Vec<f32>,
    pub(crate) d_normed: Vec<f32>,
    pub(crate) d_attention: Vec<f32>,
    pub(crate) dq: Vec<f32>,
    pub(crate) dk: Vec<f32>,
    pub(crate) dv: Vec<f32>,
    pub(crate) d_raw: Vec<f32>,
}

/// Activations and scratch of a decoder's passes. Starts empty, grows to what the largest batch needs.
#[derive(Clone, Debug, Default)]
pub struct Saved {
    pub(crate) angles: Angles,
    /// The residual stream; in the backward pass its gradient.
    pub(crate) stream: Vec<f32>,
    pub(crate) blocks: Vec<BlockSaved>,
    pub(crate) head: HeadSaved,
    pub(crate) scratch: Scratch,
    /// Seed of the adapters' dropout and of NEFTune's noise in the next [`crate::Decoder::logprobs`] and its backward; none
    /// drops and adds nothing.
    pub seed: Option<u64>,
    /// NEFTune's alpha (Jain et al., 2023): embeddings of a sequence get uniform noise of up to
    /// `alpha / sqrt(tokens * hidden_size)`. 0 adds none.
    pub neftune_noise_alpha: f32,
    /// What the next [`crate::Decoder::logprobs`] keeps for its backward.
    pub checkpointing: Checkpointing,
    /// Precision of the products of linear layers and the head in the next passes; all else is f32.
    pub arithmetic: Arithmetic,
    /// Says, when buffers must grow, whether there is memory for it.
    pub free_memory: FreeMemory,
    /// The residual stream before each group of blocks that is computed again.
    pub(crate) inputs: Vec<Vec<f32>>,
    /// The residual stream while a group is computed again.
    pub(crate) again: Vec<f32>,
    /// The forward pass that filled this, when its backward may follow.
    pub(crate) ready: Option<Ready>,
}

/// The forward pass whose backward may follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ready {
    pub(crate) tokens: usize,
    pub(crate) checkpointing: Checkpointing,
}

/// The first `len` elements of a reused buffer; their content is whatever it was.
pub(crate) fn room(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    buffer.resize(len, 0.0);
    buffer
}

/// As [`room`], zeroed.
pub(crate) fn zeroed(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    buffer.clear();
    buffer.resize(len, 0.0);
    buffer
}
