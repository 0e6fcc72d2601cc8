//! What GGUF files call the tensors of a model.

use super::sizes::{EMBEDDING, HEAD};
use crate::arch::tensors::CheckpointTensor;
use crate::config::DecoderConfig;
use crate::decoder::{Role, Site, TensorLayout, parameter_specs};

/// How the tensors of queries, keys and values are stored.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum QkvLayout {
    /// A tensor each, as the decoder holds them.
    Plain,
    /// A tensor each, and ggml rotates neighbouring channels of queries and keys, not those half a head apart.
    Interleaved,
    /// One tensor for the three.
    Fused,
}

/// The tensors that a GGUF file of this shape must have.
pub(crate) fn tensors(config: &DecoderConfig, qkv: QkvLayout) -> Vec<CheckpointTensor> {
    let interleaved = |heads| match qkv {
        QkvLayout::Interleaved => TensorLayout::Interleaved { heads },
        QkvLayout::Plain | QkvLayout::Fused => TensorLayout::Plain,
    };
    let mut tensors = Vec::new();
    for spec in parameter_specs(config) {
        let name = match spec.role {
            Role::TokenEmbedding => EMBEDDING.to_owned(),
            Role::PositionEmbedding => "position_embd.weight".to_owned(),
            Role::FinalNorm(part) => format!("output_norm.{}", part.name()),
            Role::Head => HEAD.to_owned(),
            Role::Block { layer, site, part } => format!("blk.{layer}.{}.{}", site_name(site), part.name()),
            Role::LowRank { .. } => continue,
        };
        let mut tensor = CheckpointTensor::plain(name, spec.role);
        if let Role::Block { layer, site, part } = spec.role {
            match site {
                Site::QProj if qkv == QkvLayout::Fused => {
                    let sites = [Site::QProj, Site::KProj, Site::VProj];
                    tensor.roles = sites.map(|site| Role::Block { layer, site, part }).to_vec();
                    tensor.name = format!("blk.{layer}.attn_qkv.{}", part.name());
                }
                Site::KProj | Site::VProj if qkv == QkvLayout::Fused => continue,
                Site::QProj => tensor.layout = interleaved(config.num_attention_heads),
                Site::KProj => tensor.layout = interleaved(config.num_key_value_heads),
                _ => {}
            }
        }
        tensors.push(tensor);
    }
    tensors
}

fn site_name(site: Site) -> &'static str {
    match site {
        Site::InputNorm => "attn_norm",
        Site::PostAttentionNorm => "ffn_norm",
        Site::QProj => "attn_q",
        Site::KProj => "attn_k",
        Site::VProj => "attn_v",
        Site::OProj => "attn_output",
        Site::QNorm => "attn_q_norm",
        Site::KNorm => "attn_k_norm",
        Site::GateProj => "ffn_gate",
        Site::UpProj => "ffn_up",
        Site::DownProj => "ffn_down",
    }
}
