//! Buffers of passes, reused from step to step: what the backward pass needs, and scratch.
//!
//! Kept per block: its input; rotated queries, keys and values; the attention output; the residual stream
//! after attention; gate and up. Norm outputs and the MLP's product are cheap, so the backward pass
//! recomputes them, unless they are bf16 and the weights that read them are trained. What only matrix
//! products read is kept in the format in which they read it ([`Values`]): rounded to bf16 once where they
//! round to bf16.

use parlor_kernels::cross_entropy::Logits;
use parlor_kernels::norm::RowMoments;
use parlor_kernels::rope::Angles;
use parlor_kernels::{Arithmetic, Values};

use super::gradients::Gradients;
use super::options::PassOptions;
use crate::memory::FreeMemory;

/// What a norm keeps per row.
#[derive(Clone, Debug, Default)]
pub(crate) struct NormStats {
    pub(crate) inverse_rms: Vec<f32>,
    pub(crate) moments: Vec<RowMoments>,
}

/// The inputs of a block's linear layers, in the format that their products read.
#[derive(Clone, Debug, Default)]
pub(crate) struct LayerInputs {
    /// Of queries, keys and values.
    pub(crate) attention: Values,
    /// Of the gate and up projections.
    pub(crate) mlp: Values,
    /// Of the down projection.
    pub(crate) down: Values,
}

/// What a block keeps.
#[derive(Clone, Debug, Default)]
pub(crate) struct BlockActivations {
    pub(crate) x: Vec<f32>,
    pub(crate) input_norm: NormStats,
    /// Before their norm; only with query/key normalisation.
    pub(crate) raw_q: Vec<f32>,
    pub(crate) raw_k: Vec<f32>,
    pub(crate) q_norm: NormStats,
    pub(crate) k_norm: NormStats,
    pub(crate) q: Vec<f32>,
    pub(crate) k: Vec<f32>,
    pub(crate) v: Vec<f32>,
    pub(crate) attention: Vec<f32>,
    pub(crate) lse: Vec<f32>,
    pub(crate) post_attention: Vec<f32>,
    pub(crate) mlp_norm: NormStats,
    pub(crate) gate: Values,
    pub(crate) up: Values,
    /// Only where they are not recomputed (see `Decoder::keeps_inputs`).
    pub(crate) inputs: LayerInputs,
}

/// What the output head keeps, for the rows with a target or logits.
#[derive(Clone, Debug, Default)]
pub(crate) struct HeadActivations {
    pub(crate) rows: Vec<usize>,
    pub(crate) x: Vec<f32>,
    pub(crate) norm: NormStats,
    pub(crate) normed: Vec<f32>,
    pub(crate) targets: Vec<u32>,
    pub(crate) lse: Vec<f32>,
    pub(crate) logits: Logits,
    /// Head gradient: of each row's log-probability by `normed`. Empty unless the head is frozen and a
    /// backward pass follows.
    pub(crate) head_gradient: Vec<f32>,
}

/// Buffers whose content does not outlive a block.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scratch {
    /// Inputs of linear layers, where blocks do not keep them.
    pub(crate) inputs: LayerInputs,
    /// Gate and up in f32, where they are kept rounded.
    pub(crate) raw_gate: Vec<f32>,
    pub(crate) raw_up: Vec<f32>,
    pub(crate) d_normed: Vec<f32>,
    pub(crate) d_attention: Vec<f32>,
    pub(crate) dq: Vec<f32>,
    pub(crate) dk: Vec<f32>,
    pub(crate) dv: Vec<f32>,
    pub(crate) d_raw: Vec<f32>,
}

/// Activations and scratch of a decoder's passes. Starts empty and grows to what the largest batch needs.
#[derive(Clone, Debug, Default)]
pub struct Workspace {
    /// Precision of the products of linear layers and of the head, and so the format of the buffers that hold
    /// their inputs. Everything else is f32.
    pub arithmetic: Arithmetic,
    /// Asked, before buffers grow, whether there is memory for it.
    pub free_memory: FreeMemory,
    /// One per table of rotary frequencies.
    pub(crate) angles: Vec<Angles>,
    /// The residual stream; in the backward pass its gradient.
    pub(crate) stream: Vec<f32>,
    pub(crate) blocks: Vec<BlockActivations>,
    pub(crate) head: HeadActivations,
    pub(crate) scratch: Scratch,
    /// The residual stream before each group of blocks that is recomputed.
    pub(crate) group_inputs: Vec<Vec<f32>>,
    /// The residual stream while a group is recomputed.
    pub(crate) recompute: Vec<f32>,
    /// The forward pass that filled this, while its backward pass may follow.
    pub(crate) completed: Option<CompletedForward>,
}

/// A forward pass whose backward pass may follow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct CompletedForward {
    pub(crate) tokens: usize,
    pub(crate) options: PassOptions,
}

/// The buffer with `len` elements; their values are unspecified.
pub(crate) fn resized(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    buffer.resize(len, 0.0);
    buffer
}

/// As [`room`], zeroed.
pub(crate) fn zeroed(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    buffer.clear();
    buffer.resize(len, 0.0);
    buffer
}

/// What the backward pass of a block reads and writes.
pub(crate) struct BlockBackward<'a> {
    pub(crate) activations: &'a mut BlockActivations,
    pub(crate) scratch: &'a mut Scratch,
    /// The gradient of the residual stream, `[tokens, hidden]`.
    pub(crate) d_stream: &'a mut [f32],
    pub(crate) gradients: &'a mut Gradients,
}

impl BlockBackward<'_> {
    fn inputs(&mut self, kept: bool) -> &mut LayerInputs {
        if kept { &mut self.activations.inputs } else { &mut self.scratch.inputs }
    }

    /// Takes the buffers of the linear layers' inputs out, so that the others can be borrowed.
    pub(crate) fn take_inputs(&mut self, kept: bool) -> LayerInputs {
        std::mem::take(self.inputs(kept))
    }

    /// Puts back what [`Self::take_inputs`] took.
    pub(crate) fn put_inputs(&mut self, kept: bool, inputs: LayerInputs) {
        *self.inputs(kept) = inputs;
    }
}
