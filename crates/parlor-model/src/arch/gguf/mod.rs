//! What GGUF files call the supported families: metadata keys, tensor names, vocabularies.
//!
//! Sources: `gguf-py/gguf/constants.py` and `conversion/` in llama.cpp. Leaves out: mixtures of experts, rotation of
//! parts of heads, YaRN.

mod pre_tokenizers;
mod rope_factors;
mod sampling;
mod vocabulary;

use super::Architecture;
use super::hf_config::{LARGEST_CONTEXT, LARGEST_HEADS, LARGEST_LAYERS, LARGEST_WIDTH};
use super::tensors::{CheckpointTensor, TensorLayout};
use crate::decoder_config::{
    Activation, Bias, DecoderConfig, Head, Mlp, Norm, Positions, QkNorm, Rope, RopeScaling,
};
use crate::error::{LoadErrorKind, ModelLoadError};
use crate::gguf::{Gguf, Metadata};
use crate::parameter::{ParameterPart, Role, Site, parameter_specs};
pub(crate) use vocabulary::{generation, vocabulary};

const ARCHITECTURE: &str = "general.architecture";
const EMBEDDING: &str = "token_embd.weight";
const HEAD: &str = "output.weight";
/// What the lowest frequencies of a `llama3` scaling are divided by; not a parameter.
const ROPE_FACTORS: &str = "rope_freqs.weight";

/// The keys of one family, which begin with its name.
struct Keys<'a> {
    metadata: &'a Metadata,
    family: &'a str,
}

impl Keys<'_> {
    fn name(&self, key: &str) -> String {
        format!("{}.{key}", self.family)
    }

    fn optional(&self, key: &str, most: u64) -> Result<Option<usize>, ModelLoadError> {
        let name = self.name(key);
        match self.metadata.integer(&name)? {
            None => Ok(None),
            Some(value) if (1..=most).contains(&value) => Ok(Some(value as usize)),
            Some(_) => Err(self.metadata.wrong(&name, &format!("a whole number from 1 to {most}"))),
        }
    }

    fn needed(&self, key: &str, most: u64) -> Result<usize, ModelLoadError> {
        self.optional(key, most)?.ok_or_else(|| self.metadata.missing(&self.name(key)))
    }

    fn positive(&self, key: &str) -> Result<Option<f64>, ModelLoadError> {
        let name = self.name(key);
        match self.metadata.number(&name)? {
            Some(value) if value <= 0.0 => Err(self.metadata.wrong(&name, "a number above 0")),
            value => Ok(value),
        }
    }

    fn needed_positive(&self, key: &str) -> Result<f64, ModelLoadError> {
        self.positive(key)?.ok_or_else(|| self.metadata.missing(&self.name(key)))
    }

    fn unsupported(&self, key: &str, supported: &str) -> ModelLoadError {
        let name = self.name(key);
        let what = format!("this is not supported for {} models", self.family);
        let help = format!("Parlor supports {supported}; use a model with that");
        self.metadata.problem(LoadErrorKind::Incompatible, &name, what, help)
    }

    /// An error when the key is there with another value than the one that is supported.
    fn only(&self, key: &str, value: u64, supported: &str) -> Result<(), ModelLoadError> {
        match self.metadata.integer(&self.name(key))? {
            Some(found) if found != value => Err(self.unsupported(key, supported)),
            _ => Ok(()),
        }
    }
}

/// The family of this name.
fn named(family: &str) -> Option<Architecture> {
    match family {
        "qwen2" => Some(Architecture::Qwen2),
        "qwen3" => Some(Architecture::Qwen3),
        "gpt2" => Some(Architecture::Gpt2),
        "llama" => Some(Architecture::Llama),
        _ => None,
    }
}

/// The family that a file names, where it is none of those that Parlor runs.
///
/// # Errors
/// `Corrupt` when its name is no text.
pub(crate) fn unsupported_family(metadata: &Metadata) -> Result<Option<&str>, ModelLoadError> {
    Ok(metadata.text(ARCHITECTURE)?.filter(|family| named(family).is_none()))
}

impl Architecture {
    /// Family and shape of the model in a GGUF file.
    ///
    /// # Errors
    /// `Corrupt` for a missing, ill-typed or contradictory key; `Incompatible` for what Parlor does not run. Each names the
    /// key and the file.
    pub(crate) fn of_gguf(file: &Gguf) -> Result<(Self, DecoderConfig), ModelLoadError> {
        let metadata = &file.metadata;
        let family = metadata.text(ARCHITECTURE)?.ok_or_else(|| metadata.missing(ARCHITECTURE))?;
        let keys = Keys { metadata, family };
        let architecture = match named(family) {
            // One name for both; only the one of them has windows.
            Some(Architecture::Llama) if window(&keys)?.is_some() => Architecture::Mistral,
            Some(architecture) => architecture,
            None => {
                return Err(metadata.problem(
                    LoadErrorKind::Incompatible,
                    ARCHITECTURE,
                    format!("models of type `{family}` are not supported"),
                    "use a model of a supported family: `qwen2`, `qwen3`, `llama` (also for Mistral), `gpt2`",
                ));
            }
        };
        if metadata.integer(&keys.name("expert_count"))?.is_some_and(|count| count > 0) {
            return Err(keys.unsupported("expert_count", "models without experts"));
        }
        let config = decoder_config(architecture, &keys, file)?;
        let mut problems = config.problems();
        if problems.is_empty() {
            problems = architecture.hf_config(&config).err().unwrap_or_default();
        }
        if !problems.is_empty() {
            return Err(ModelLoadError::corrupt(
                metadata.path(),
                format!("the metadata describe an inconsistent model: {}", problems.join("; ")),
                "convert or download the model again",
            ));
        }
        Ok((architecture, config))
    }

    /// The tensors that a GGUF file of this family and shape must have.
    pub(crate) fn gguf_tensors(self, config: &DecoderConfig) -> Vec<CheckpointTensor> {
        let fused = self == Architecture::Gpt2;
        let mut tensors = Vec::new();
        for spec in parameter_specs(config) {
            let (mut roles, mut layout) = (vec![spec.role], TensorLayout::Plain);
            let mut name = match spec.role {
                Role::TokenEmbedding => EMBEDDING.to_owned(),
                Role::PositionEmbedding => "position_embd.weight".to_owned(),
                Role::FinalNorm(part) => format!("output_norm.{}", suffix(part)),
                Role::Head => HEAD.to_owned(),
                Role::Block { layer, site, part } => {
                    format!("blk.{layer}.{}.{}", site_name(site), suffix(part))
                }
                Role::LowRank { .. } => continue,
            };
            if let Role::Block { layer, site, part } = spec.role {
                match site {
                    Site::QProj if fused => {
                        let sites = [Site::QProj, Site::KProj, Site::VProj];
                        roles = sites.map(|site| Role::Block { layer, site, part }).to_vec();
                        name = format!("blk.{layer}.attn_qkv.{}", suffix(part));
                    }
                    Site::KProj | Site::VProj if fused => continue,
                    Site::QProj if self.interleaves() => {
                        layout = TensorLayout::Interleaved { heads: config.num_attention_heads };
                    }
                    Site::KProj if self.interleaves() => {
                        layout = TensorLayout::Interleaved { heads: config.num_key_value_heads };
                    }
                    _ => {}
                }
            }
            tensors.push(CheckpointTensor { name, alternatives: Vec::new(), layout, roles });
        }
        tensors
    }

    /// Whether ggml rotates neighbouring channels of this family, not those half a head apart.
    fn interleaves(self) -> bool {
        matches!(self, Architecture::Llama | Architecture::Mistral)
    }

    /// Whether a tensor that no parameter needs is known and left out on purpose.
    pub(crate) fn ignores_of_gguf(self, name: &str, config: &DecoderConfig) -> bool {
        let scaled = matches!(
            config.positions,
            Positions::Rope(Rope { scaling: RopeScaling::ByWavelength { .. }, .. })
        );
        name == ROPE_FACTORS && scaled
    }
}

fn suffix(part: ParameterPart) -> &'static str {
    match part {
        ParameterPart::Weight => "weight",
        ParameterPart::Bias => "bias",
    }
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

/// How far back attention looks; 0 is everywhere, like no key.
fn window(keys: &Keys<'_>) -> Result<Option<usize>, ModelLoadError> {
    const KEY: &str = "attention.sliding_window";
    match keys.metadata.integer(&keys.name(KEY))? {
        Some(0) => Ok(None),
        _ => keys.optional(KEY, LARGEST_CONTEXT),
    }
}

fn decoder_config(
    architecture: Architecture,
    keys: &Keys<'_>,
    file: &Gguf,
) -> Result<DecoderConfig, ModelLoadError> {
    let metadata = keys.metadata;
    let gpt2 = architecture == Architecture::Gpt2;
    let hidden_size = keys.needed("embedding_length", LARGEST_WIDTH)?;
    let heads = keys.needed("attention.head_count", LARGEST_HEADS)?;
    let head_dim = match keys.optional("attention.key_length", LARGEST_HEADS)? {
        Some(width) => width,
        None if hidden_size.is_multiple_of(heads) => hidden_size / heads,
        None => {
            let expected = format!("a divisor of the embedding's length, {hidden_size}");
            return Err(metadata.wrong(&keys.name("attention.head_count"), &expected));
        }
    };
    keys.only("attention.value_length", head_dim as u64, "values as wide as keys")?;
    keys.only("rope.dimension_count", head_dim as u64, "rotation of whole heads")?;
    let layers = keys.needed("block_count", LARGEST_LAYERS)?;
    let max_position_embeddings = keys.needed("context_length", LARGEST_CONTEXT)?;
    let Some(&[vocab_size, _]) = file.weights.get(EMBEDDING).map(|entry| entry.shape()) else {
        return Err(ModelLoadError::corrupt(
            metadata.path(),
            format!("the tensor `{EMBEDDING}` is missing or is no matrix: the model has no token embedding"),
            "convert or download the model again",
        ));
    };
    if vocab_size as u64 > LARGEST_WIDTH {
        let what =
            format!("the tensor `{EMBEDDING}` has {vocab_size} rows; at most {LARGEST_WIDTH} are read");
        return Err(ModelLoadError::corrupt(metadata.path(), what, "convert or download the model again"));
    }
    let window = if architecture == Architecture::Mistral { window(keys)? } else { None };
    Ok(DecoderConfig {
        vocab_size,
        hidden_size,
        intermediate_size: keys.needed("feed_forward_length", LARGEST_WIDTH)?,
        num_hidden_layers: layers,
        num_attention_heads: heads,
        num_key_value_heads: keys.optional("attention.head_count_kv", LARGEST_HEADS)?.unwrap_or(heads),
        head_dim,
        max_position_embeddings,
        norm: match gpt2 {
            true => Norm::Layer { eps: keys.needed_positive("attention.layer_norm_epsilon")? as f32 },
            false => Norm::Rms { eps: keys.needed_positive("attention.layer_norm_rms_epsilon")? as f32 },
        },
        positions: match gpt2 {
            true => Positions::Learned,
            false => Positions::Rope(rope(keys, file, head_dim)?),
        },
        mlp: if gpt2 { Mlp::Plain(Activation::GeluTanh) } else { Mlp::Gated(Activation::Silu) },
        bias: bias(architecture, file),
        qk_norm: if architecture == Architecture::Qwen3 { QkNorm::PerHead } else { QkNorm::None },
        windows: vec![window; layers],
        head: if file.weights.get(HEAD).is_some() { Head::Separate } else { Head::Tied },
        initializer_range: 0.02,
    })
}

/// No key says which layers have biases: the tensors do.
fn bias(architecture: Architecture, file: &Gguf) -> Bias {
    let has = |name: &str| file.weights.get(&format!("blk.0.{name}.bias")).is_some();
    match architecture {
        Architecture::Qwen2 => Bias::Qkv,
        Architecture::Gpt2 => Bias::All,
        _ => match (has("attn_q"), has("ffn_up")) {
            (false, false) => Bias::None,
            (true, false) => Bias::Attention,
            (false, true) => Bias::Mlp,
            (true, true) => Bias::All,
        },
    }
}

fn rope(keys: &Keys<'_>, file: &Gguf, head_dim: usize) -> Result<Rope, ModelLoadError> {
    const KIND: &str = "rope.scaling.type";
    let theta = keys.positive("rope.freq_base")?.unwrap_or(10_000.0);
    let factor = match keys.positive("rope.scaling.factor")? {
        Some(factor) => Some(factor),
        None => keys.positive("rope.scale_linear")?,
    };
    let kind = keys.metadata.text(&keys.name(KIND))?;
    let scaling = match kind {
        Some("none") => RopeScaling::Default,
        None | Some("linear") => factor
            .filter(|factor| *factor != 1.0)
            .map_or(RopeScaling::Default, |factor| RopeScaling::Linear { factor }),
        Some(_) => return Err(keys.unsupported(KIND, "`none`, `linear` and factors as `llama3` has them")),
    };
    let Some(entry) = file.weights.get(ROPE_FACTORS) else { return Ok(Rope { theta, scaling }) };
    if scaling != RopeScaling::Default {
        return Err(keys.unsupported("rope.scaling.factor", "either this or frequency factors"));
    }
    let factors = entry.tensor(ROPE_FACTORS, &[head_dim / 2])?.to_f32_vec();
    let scaling = rope_factors::scaling(&factors, theta, head_dim).ok_or_else(|| {
        ModelLoadError::new(
            LoadErrorKind::Incompatible,
            entry.place(ROPE_FACTORS),
            "these frequency factors are not those of a `llama3` scaling",
            "use a model with `llama3` scaling, linear scaling or none",
        )
    })?;
    Ok(Rope { theta, scaling })
}
