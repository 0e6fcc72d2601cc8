//! The sizes and the rotary embedding of the model in a GGUF file.

use super::keys::GgufKeys;
use super::rope_factors;
use crate::arch::hf_config::{LARGEST_CONTEXT, LARGEST_HEADS, LARGEST_LAYERS, LARGEST_WIDTH};
use crate::config::{Bias, DecoderConfig, Head, Positions, Rope, RopeScaling};
use crate::error::{LoadErrorKind, ModelLoadError};
use crate::files::Gguf;

pub(super) const EMBEDDING: &str = "token_embd.weight";
pub(super) const HEAD: &str = "output.weight";
/// What the lowest frequencies of a `llama3` scaling are divided by; not a parameter.
const ROPE_FACTORS: &str = "rope_freqs.weight";

/// The sizes that every family's files have.
pub(crate) struct GgufSizes {
    pub(crate) vocab_size: usize,
    pub(crate) hidden_size: usize,
    pub(crate) intermediate_size: usize,
    pub(crate) num_hidden_layers: usize,
    pub(crate) num_attention_heads: usize,
    pub(crate) num_key_value_heads: usize,
    pub(crate) head_dim: usize,
    pub(crate) max_position_embeddings: usize,
    pub(crate) head: Head,
}

impl GgufSizes {
    /// Reads them.
    ///
    /// # Errors
    /// `Corrupt` for missing and contradictory keys, `Incompatible` for what no family has.
    pub(crate) fn read(keys: &GgufKeys<'_>, file: &Gguf) -> Result<Self, ModelLoadError> {
        let metadata = keys.metadata;
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
        let num_hidden_layers = keys.needed("block_count", LARGEST_LAYERS)?;
        let max_position_embeddings = keys.needed("context_length", LARGEST_CONTEXT)?;
        let Some(&[vocab_size, _]) = file.weights.get(EMBEDDING).map(|entry| entry.shape()) else {
            return Err(ModelLoadError::corrupt(
                metadata.path(),
                format!(
                    "the tensor `{EMBEDDING}` is missing or is no matrix: the model has no token embedding"
                ),
                "convert or download the model again",
            ));
        };
        if vocab_size as u64 > LARGEST_WIDTH {
            let what =
                format!("the tensor `{EMBEDDING}` has {vocab_size} rows; at most {LARGEST_WIDTH} are read");
            return Err(ModelLoadError::corrupt(
                metadata.path(),
                what,
                "convert or download the model again",
            ));
        }
        Ok(Self {
            vocab_size,
            hidden_size,
            intermediate_size: keys.needed("feed_forward_length", LARGEST_WIDTH)?,
            num_hidden_layers,
            num_attention_heads: heads,
            num_key_value_heads: keys.optional("attention.head_count_kv", LARGEST_HEADS)?.unwrap_or(heads),
            head_dim,
            max_position_embeddings,
            head: if file.weights.get(HEAD).is_some() { Head::Separate } else { Head::Tied },
        })
    }
}

/// Which linear layers have biases: no key says so, the tensors do.
pub(crate) fn bias(file: &Gguf) -> Bias {
    let has = |name: &str| file.weights.get(&format!("blk.0.{name}.bias")).is_some();
    match (has("attn_q"), has("ffn_up")) {
        (false, false) => Bias::None,
        (true, false) => Bias::Attention,
        (false, true) => Bias::Mlp,
        (true, true) => Bias::All,
    }
}

/// Whether the tensor holds the frequency factors that the configuration already expresses.
pub(crate) fn is_rope_factors(name: &str, config: &DecoderConfig) -> bool {
    let scaled = config.positions == Positions::Rotary
        && config
            .layers
            .iter()
            .filter_map(|layer| layer.rope)
            .any(|rope| matches!(rope.scaling, RopeScaling::ByWavelength { .. }));
    name == ROPE_FACTORS && scaled
}

/// The rotary embedding of all layers.
///
/// # Errors
/// `Incompatible` for a scaling that Parlor does not have.
pub(crate) fn rope(keys: &GgufKeys<'_>, file: &Gguf, head_dim: usize) -> Result<Rope, ModelLoadError> {
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
