//! Options of a training pass, apart from its buffers.

use std::num::NonZeroUsize;

/// What a forward pass of training keeps for its backward pass: activation checkpointing (Chen et al., 2016).
///
/// A block that is recomputed gives the same bits, so the gradients are exactly those without checkpointing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checkpointing {
    /// Every block's activations.
    #[default]
    None,
    /// The residual stream before every so many blocks. The backward pass recomputes the blocks of one such
    /// group at a time. One block in a group takes the least memory.
    Every(NonZeroUsize),
}

impl Checkpointing {
    /// Blocks in a group; `None` when nothing is recomputed.
    pub(crate) fn group(self) -> Option<usize> {
        match self {
            Checkpointing::None => None,
            Checkpointing::Every(blocks) => Some(blocks.get()),
        }
    }
}

/// Options of [`crate::Decoder::logprobs`]. The backward pass that follows uses the same ones.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PassOptions {
    /// Seed of the adapters' dropout and of NEFTune's noise; `None` drops nothing and adds no noise.
    pub seed: Option<u64>,
    /// NEFTune's alpha (Jain et al., 2023): embeddings of a sequence get uniform noise of up to
    /// `alpha / sqrt(tokens * hidden_size)`. 0 adds none.
    pub neftune_noise_alpha: f32,
    /// What is kept for the backward pass.
    pub checkpointing: Checkpointing,
}
