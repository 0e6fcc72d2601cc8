//! What the families descended from LLaMA share: config keys and tensor names.
//!
//! Source: `models/{llama,mistral,qwen2,qwen3}` in transformers 5.23. A key that is absent has the default of its class
//! there, unless it is a width, which must be the weights'.

use serde_json::{Map, Value, json};

use super::hf_config::HfConfig;
use super::rotary;
use super::tensors::{CheckpointTensor, TensorLayout};
use crate::decoder_config::{Activation, Bias, DecoderConfig, Head, Mlp, Norm, Positions, QkNorm};
use crate::error::ModelLoadError;
use crate::parameter::{ParameterPart, Role, Site, parameter_specs};

/// What differs between the families of this llama_family when a config is read.
pub(super) struct LlamaDefaults {
    /// Which layers have a bias.
    pub(super) bias: Bias,
    /// Query/key normalisation.
    pub(super) qk_norm: QkNorm,
    /// `head_dim` of a file that does not name it; `None` divides `hidden_size` by the heads.
    pub(super) head_dim: Option<usize>,
    /// `num_key_value_heads` of a file that does not name it; `None` is the number of heads.
    pub(super) num_key_value_heads: Option<usize>,
    /// Longest sequence of a file that does not name it.
    pub(super) max_position_embeddings: usize,
}

/// Reads the shape; `windows` are every layer's, from the family.
pub(super) fn decoder_config(
    config: &HfConfig<'_>,
    defaults: &LlamaDefaults,
    windows: Vec<Option<usize>>,
) -> Result<DecoderConfig, ModelLoadError> {
    let hidden_size = config.width("hidden_size")?;
    let heads = config.heads("num_attention_heads")?;
    let head_dim = match config.optional_heads("head_dim")? {
        Some(width) => width,
        None => match defaults.head_dim {
            Some(width) if !config.is_null("head_dim") => width,
            _ if hidden_size.is_multiple_of(heads) => hidden_size / heads,
            _ => {
                return Err(ModelLoadError::corrupt(
                    config.file,
                    format!(
                        "`hidden_size` ({hidden_size}) is not a multiple of `num_attention_heads` ({heads}), and \
                         there is no `head_dim`"
                    ),
                    "restore these keys from the model's original config.json",
                ));
            }
        },
    };
    let num_key_value_heads = match config.optional_heads("num_key_value_heads")? {
        Some(number) => number,
        None if config.is_null("num_key_value_heads") => heads,
        None => match defaults.num_key_value_heads {
            Some(number) if !heads.is_multiple_of(number) => {
                return Err(ModelLoadError::corrupt(
                    config.file,
                    format!(
                        "the key `num_key_value_heads` is missing, and the {number} that a {} model has without it do \
                         not divide `num_attention_heads` ({heads})",
                        config.family
                    ),
                    "restore `num_key_value_heads` from the model's original config.json",
                ));
            }
            number => number.unwrap_or(heads),
        },
    };
    match config.optional_text("hidden_act")? {
        None if config.is_null("hidden_act") => return Err(config.missing("hidden_act")),
        None | Some("silu" | "swish") => {}
        Some(other) => return Err(config.unsupported("hidden_act", &json!(other), "`silu`")),
    }
    let max_position_embeddings = match config.optional_context("max_position_embeddings")? {
        Some(length) => length,
        None if config.is_null("max_position_embeddings") => {
            return Err(config.missing("max_position_embeddings"));
        }
        None => defaults.max_position_embeddings,
    };
    Ok(DecoderConfig {
        vocab_size: config.width("vocab_size")?,
        hidden_size,
        intermediate_size: config.width("intermediate_size")?,
        num_hidden_layers: config.layers("num_hidden_layers")?,
        num_attention_heads: heads,
        num_key_value_heads,
        head_dim,
        max_position_embeddings,
        norm: Norm::Rms { eps: config.optional_positive("rms_norm_eps")?.unwrap_or(1e-6) as f32 },
        positions: Positions::Rope(rotary::read(config, max_position_embeddings)?),
        mlp: Mlp::Gated(Activation::Silu),
        bias: defaults.bias,
        qk_norm: defaults.qk_norm,
        windows,
        head: if config.flag("tie_word_embeddings", false)? { Head::Tied } else { Head::Separate },
        initializer_range: config.optional_positive("initializer_range")?.unwrap_or(0.02) as f32,
    })
}

/// The window of a file that does not name it.
pub(super) const DEFAULT_WINDOW: usize = 4096;

/// Every layer's window, for families with `use_sliding_window`, `max_window_layers` and `layer_types`.
pub(super) fn windows_by_layer(config: &HfConfig<'_>) -> Result<Vec<Option<usize>>, ModelLoadError> {
    let layers = config.layers("num_hidden_layers")?;
    let window = match config.flag("use_sliding_window", false)? {
        true if config.is_null("sliding_window") => None,
        true => Some(config.optional_context("sliding_window")?.unwrap_or(DEFAULT_WINDOW)),
        false => None,
    };
    let Some(types) = config.get("layer_types") else {
        // transformers' default is 28 layers.
        let from = match config.get("max_window_layers") {
            None => 28,
            Some(value) => {
                value.as_u64().ok_or_else(|| config.wrong("max_window_layers", "a whole number", value))?
            }
        };
        return Ok((0..layers).map(|layer| window.filter(|_| layer as u64 >= from)).collect());
    };
    let list = types
        .as_array()
        .filter(|list| list.len() == layers)
        .ok_or_else(|| config.wrong("layer_types", &format!("a list of {layers} names"), types))?;
    list.iter()
        .map(|kind| match kind.as_str() {
            Some("full_attention") => Ok(None),
            Some("sliding_attention") if window.is_some() => Ok(window),
            Some("sliding_attention") => Err(ModelLoadError::corrupt(
                config.file,
                "`layer_types` has sliding layers, but `use_sliding_window` with `sliding_window` is not set",
                "restore these keys from the model's original config.json",
            )),
            _ => Err(config.unsupported("layer_types", kind, "`full_attention` and `sliding_attention`")),
        })
        .collect()
}

/// The keys of `config.json` that all families of the llama_family write.
pub(super) fn hf_keys(config: &DecoderConfig) -> Map<String, Value> {
    let mut map = Map::new();
    let eps = match config.norm {
        Norm::Rms { eps } | Norm::Layer { eps } => eps,
    };
    let mut put = |key: &str, value: Value| map.insert(key.to_owned(), value);
    put("vocab_size", json!(config.vocab_size));
    put("hidden_size", json!(config.hidden_size));
    put("intermediate_size", json!(config.intermediate_size));
    put("num_hidden_layers", json!(config.num_hidden_layers));
    put("num_attention_heads", json!(config.num_attention_heads));
    put("num_key_value_heads", json!(config.num_key_value_heads));
    put("head_dim", json!(config.head_dim));
    put("hidden_act", json!("silu"));
    put("max_position_embeddings", json!(config.max_position_embeddings));
    put("rms_norm_eps", shortest(eps));
    put("initializer_range", shortest(config.initializer_range));
    put("tie_word_embeddings", json!(config.head == Head::Tied));
    put("attention_dropout", json!(0.0));
    put("use_cache", json!(true));
    rotary::write(config, &mut map);
    map
}

/// The f32 in its shortest decimal form: 1e-6, not 9.999999974752427e-7.
pub(super) fn shortest(value: f32) -> Value {
    value.to_string().parse::<f64>().map_or(json!(value), |number| json!(number))
}

/// One disk tensor per parameter, `model.layers.N.self_attn.q_proj.weight` and so on.
pub(super) fn checkpoint_tensors(config: &DecoderConfig) -> Vec<CheckpointTensor> {
    parameter_specs(config)
        .into_iter()
        .map(|spec| {
            let bare = bare_name(spec.role);
            let (name, alternatives) = if spec.role == Role::Head {
                (bare, Vec::new())
            } else {
                (format!("model.{bare}"), vec![bare])
            };
            CheckpointTensor { name, alternatives, layout: TensorLayout::Plain, roles: vec![spec.role] }
        })
        .collect()
}

/// First parts of the names of what lies inside the decoder.
pub(super) const MODULES: &[&str] = &["embed_tokens", "layers", "norm", "lm_head"];

fn bare_name(role: Role) -> String {
    let part = |part| match part {
        ParameterPart::Weight => "weight",
        ParameterPart::Bias => "bias",
    };
    match role {
        Role::TokenEmbedding => "embed_tokens.weight".to_owned(),
        Role::PositionEmbedding => "embed_positions.weight".to_owned(),
        Role::FinalNorm(p) => format!("norm.{}", part(p)),
        Role::Head => "lm_head.weight".to_owned(),
        Role::Block { layer, site, part: p } => {
            let site = match site {
                Site::InputNorm => "input_layernorm",
                Site::PostAttentionNorm => "post_attention_layernorm",
                Site::QProj => "self_attn.q_proj",
                Site::KProj => "self_attn.k_proj",
                Site::VProj => "self_attn.v_proj",
                Site::OProj => "self_attn.o_proj",
                Site::QNorm => "self_attn.q_norm",
                Site::KNorm => "self_attn.k_norm",
                Site::GateProj => "mlp.gate_proj",
                Site::UpProj => "mlp.up_proj",
                Site::DownProj => "mlp.down_proj",
            };
            format!("layers.{layer}.{site}.{}", part(p))
        }
        // Of no checkpoint: adapters have files of their own.
        Role::LowRank { .. } => role.to_string(),
    }
}

/// Buffers that old checkpoints carry and the decoder computes itself.
pub(super) fn is_ignored(name: &str) -> bool {
    name.ends_with(".rotary_emb.inv_freq")
}
