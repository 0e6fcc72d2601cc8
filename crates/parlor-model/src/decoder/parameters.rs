//! The parameters of a decoder, in a fixed order, and the role of each.
//!
//! A [`Role`] names a parameter independently of any vendor; `arch/` maps roles to the tensor names of a
//! checkpoint. Matrices are `[out, in]`, as PyTorch's `nn.Linear` stores them.

use std::fmt;

use parlor_kernels::Tensor;

use crate::config::{DecoderConfig, Head, Mlp, Norm, Positions, QkNorm};

/// Weight or bias of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ParameterPart {
    /// The matrix, or a norm's scale.
    Weight,
    /// The vector that is added.
    Bias,
}

impl ParameterPart {
    /// PyTorch's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            ParameterPart::Weight => "weight",
            ParameterPart::Bias => "bias",
        }
    }
}

/// A layer within a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Site {
    /// Norm before attention.
    InputNorm,
    /// Query projection.
    QProj,
    /// Key projection.
    KProj,
    /// Value projection.
    VProj,
    /// Attention output projection.
    OProj,
    /// Per-head norm of queries.
    QNorm,
    /// Per-head norm of keys.
    KNorm,
    /// Norm before the MLP.
    PostAttentionNorm,
    /// Gate projection of a gated MLP.
    GateProj,
    /// Up projection.
    UpProj,
    /// Down projection.
    DownProj,
}

/// The role of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Token embedding `[vocab, hidden]`; also the head when tied.
    TokenEmbedding,
    /// Learned positions `[max_position_embeddings, hidden]`.
    PositionEmbedding,
    /// A parameter of block `layer`.
    Block {
        /// Block number from 0.
        layer: usize,
        /// Which layer of the block.
        site: Site,
        /// Weight or bias.
        part: ParameterPart,
    },
    /// Norm after the last block.
    FinalNorm(ParameterPart),
    /// Output head `[vocab, hidden]`, when it is not tied.
    Head,
    /// A factor of a low-rank adapter. Where several linear layers are one tensor on disk, `site` is the
    /// first of them.
    LowRank {
        /// Block number from 0.
        layer: usize,
        /// Which linear layer of the block.
        site: Site,
        /// Which factor.
        factor: Factor,
    },
}

/// A factor of a low-rank adapter (Hu et al., 2021), with PEFT's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Factor {
    /// `lora_A` `[r, in]`.
    A,
    /// `lora_B` `[out, r]`.
    B,
    /// DoRA's `lora_magnitude_vector` `[out]`.
    Magnitude,
}

impl Factor {
    /// PEFT's name.
    pub fn name(self) -> &'static str {
        match self {
            Factor::A => "lora_A",
            Factor::B => "lora_B",
            Factor::Magnitude => "lora_magnitude_vector",
        }
    }
}

/// What a parameter belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Owner {
    /// The model.
    #[default]
    Model,
    /// The adapter of this index: a factor, or the replacement of a parameter of the model.
    Adapter(usize),
}

impl Site {
    /// Number of sites in a block.
    pub(crate) const COUNT: usize = Site::DownProj as usize + 1;

    /// Whether it is a linear layer; the others are norms.
    pub(crate) fn is_linear(self) -> bool {
        use Site::{DownProj, GateProj, KProj, OProj, QProj, UpProj, VProj};
        matches!(self, QProj | KProj | VProj | OProj | GateProj | UpProj | DownProj)
    }

    fn name(self) -> &'static str {
        match self {
            Site::InputNorm => "input_layernorm",
            Site::QProj => "q_proj",
            Site::KProj => "k_proj",
            Site::VProj => "v_proj",
            Site::OProj => "o_proj",
            Site::QNorm => "q_norm",
            Site::KNorm => "k_norm",
            Site::PostAttentionNorm => "post_attention_layernorm",
            Site::GateProj => "gate_proj",
            Site::UpProj => "up_proj",
            Site::DownProj => "down_proj",
        }
    }
}

impl fmt::Display for Role {
    /// A stable name, used for optimizer state and messages: `layers.3.q_proj.weight`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Role::TokenEmbedding => f.write_str("embed_tokens.weight"),
            Role::PositionEmbedding => f.write_str("embed_positions.weight"),
            Role::FinalNorm(part) => write!(f, "norm.{}", part.name()),
            Role::Head => f.write_str("lm_head.weight"),
            Role::Block { layer, site, part } => {
                write!(f, "layers.{layer}.{}.{}", site.name(), part.name())
            }
            Role::LowRank { layer, site, factor } => {
                write!(f, "layers.{layer}.{}.{}", site.name(), factor.name())
            }
        }
    }
}

/// The kind of a parameter, which decides its initial values and whether weight decay applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A matrix: normal initial values, decayed.
    Matrix,
    /// A norm's scale: ones, not decayed.
    NormWeight,
    /// A bias (of a linear layer or a norm): zeros, not decayed.
    Bias,
    /// A factor of a low-rank adapter: f32, decayed.
    LowRank,
}

/// One parameter of a decoder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParameterSpec {
    /// Its role.
    pub role: Role,
    /// `[out, in]`, `[rows, hidden]` or `[n]`.
    pub shape: Vec<usize>,
    /// Matrix, norm weight, bias or low-rank factor.
    pub kind: Kind,
    /// What it belongs to.
    pub owner: Owner,
}

impl ParameterSpec {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One parameter: its specification and its numbers.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// Role, shape and kind.
    pub spec: ParameterSpec,
    /// The numbers, in `spec.shape`.
    pub tensor: Tensor,
}

/// Index of a parameter in [`crate::Decoder::parameters`].
pub type ParameterId = usize;

/// How the tensor of a file stores a matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TensorLayout {
    /// `[out, in]`, as the decoder holds it.
    Plain,
    /// `[in, out]`.
    Transposed,
    /// `[out, in]` with the rows of each head interleaved: the two halves of a head alternate, so that the
    /// rows that are rotated together are neighbours.
    Interleaved {
        /// Number of heads.
        heads: usize,
    },
}

/// All parameters of a decoder of this shape, in the order in which [`crate::Decoder`] holds them; those of
/// adapters come after them.
pub fn parameter_specs(config: &DecoderConfig) -> Vec<ParameterSpec> {
    let mut specs = Vec::new();
    let mut push = |role, shape: Vec<usize>, kind| {
        specs.push(ParameterSpec { role, shape, kind, owner: Owner::Model });
    };
    let hidden = config.hidden_size;
    push(Role::TokenEmbedding, vec![config.vocab_size, hidden], Kind::Matrix);
    if config.positions == Positions::Learned {
        push(Role::PositionEmbedding, vec![config.max_position_embeddings, hidden], Kind::Matrix);
    }
    for (layer, own) in config.layers.iter().enumerate() {
        let (q, kv, inner) = (config.query_size(), config.key_value_size(), config.intermediate_size);
        let block = |site, part| Role::Block { layer, site, part };
        let mut norm = |site, width| {
            push(block(site, ParameterPart::Weight), vec![width], Kind::NormWeight);
            if matches!(config.norm, Norm::Layer { .. }) {
                push(block(site, ParameterPart::Bias), vec![width], Kind::Bias);
            }
        };
        norm(Site::InputNorm, hidden);
        norm(Site::PostAttentionNorm, hidden);
        if config.qk_norm == QkNorm::PerHead {
            push(block(Site::QNorm, ParameterPart::Weight), vec![config.head_dim], Kind::NormWeight);
            push(block(Site::KNorm, ParameterPart::Weight), vec![config.head_dim], Kind::NormWeight);
        }
        let mut linear = |site, out, input, bias| {
            push(block(site, ParameterPart::Weight), vec![out, input], Kind::Matrix);
            if bias {
                push(block(site, ParameterPart::Bias), vec![out], Kind::Bias);
            }
        };
        linear(Site::QProj, q, hidden, config.bias.on_qkv());
        linear(Site::KProj, kv, hidden, config.bias.on_qkv());
        linear(Site::VProj, kv, hidden, config.bias.on_qkv());
        linear(Site::OProj, hidden, q, config.bias.on_attention_output());
        if matches!(own.mlp, Mlp::Gated(_)) {
            linear(Site::GateProj, inner, hidden, config.bias.on_mlp());
        }
        linear(Site::UpProj, inner, hidden, config.bias.on_mlp());
        linear(Site::DownProj, hidden, inner, config.bias.on_mlp());
    }
    push(Role::FinalNorm(ParameterPart::Weight), vec![hidden], Kind::NormWeight);
    if matches!(config.norm, Norm::Layer { .. }) {
        push(Role::FinalNorm(ParameterPart::Bias), vec![hidden], Kind::Bias);
    }
    if config.head == Head::Separate {
        push(Role::Head, vec![config.vocab_size, hidden], Kind::Matrix);
    }
    specs
}
