//! How far down a backward pass must go: to the lowest block with a trained parameter.

use super::gradients::Gradients;
use super::network::Decoder;
use super::parameters::{Role, Site};

/// Where a backward pass ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LowestTrained {
    /// First block with a trained parameter; the number of blocks when there is none.
    pub(crate) block: usize,
    /// Whether that block's input needs a gradient: something before its linear layers is trained.
    pub(crate) input: bool,
}

impl LowestTrained {
    pub(crate) fn of(decoder: &Decoder, gradients: &Gradients) -> Self {
        let mut lowest = Self { block: decoder.blocks.len(), input: false };
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
