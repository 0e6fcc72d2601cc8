//! Activation checkpointing: which activations a forward pass keeps, and how far down a backward pass must go.
//!
//! Source: Chen et al., 2016 (training with sublinear memory). A block that is computed again gives the same bits, so the
//! gradients are exactly those without it.

use std::num::NonZeroUsize;

use crate::decoder::Decoder;
use crate::gradients::Gradients;
use crate::parameter::{Role, Site};

/// What the forward pass of a training step keeps for its backward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checkpointing {
    /// Every block's activations.
    #[default]
    None,
    /// The residual stream before every so many blocks; the blocks in between are computed again, one group at a time.
    /// One block in a group is the least memory.
    Every(NonZeroUsize),
}

impl Checkpointing {
    /// Blocks in a group; none when nothing is computed again.
    pub(crate) fn group(self) -> Option<usize> {
        match self {
            Checkpointing::None => None,
            Checkpointing::Every(blocks) => Some(blocks.get()),
        }
    }
}

/// Where a backward pass may end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LowestTrained {
    /// First block with a trained parameter; the number of blocks when there is none.
    pub(crate) block: usize,
    /// Whether that block's input needs a gradient: something before its linear layers is trained.
    pub(crate) input: bool,
}

impl LowestTrained {
    pub(crate) fn of(decoder: &Decoder, gradients: &Gradients) -> Self {
        let blocks = decoder.config.num_hidden_layers;
        let mut lowest = Self { block: blocks, input: false };
        let roles = (0..gradients.len())
            .filter(|&id| gradients.view(id).is_some())
            .map(|id| decoder.parameters[id].spec.role);
        let mut norms = Vec::new();
        for role in roles {
            match role {
                Role::TokenEmbedding | Role::PositionEmbedding => return Self { block: 0, input: true },
                Role::Block { layer, site, .. } | Role::LowRank { layer, site, .. } => {
                    lowest.block = lowest.block.min(layer);
                    if site == Site::InputNorm {
                        norms.push(layer);
                    }
                }
                Role::FinalNorm(_) | Role::Head => {}
            }
        }
        lowest.input = norms.contains(&lowest.block);
        lowest
    }
}
