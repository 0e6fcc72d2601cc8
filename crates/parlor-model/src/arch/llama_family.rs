//! What the families descended from LLaMA share: configuration keys and tensor names, in both file formats.
//!
//! Source: `models/{llama,mistral,qwen2,qwen3}` in transformers 5.23. A key that is absent has the default of
//! its class there, unless it is a width, which must be the weights'.

use serde_json::{Map, Value, json};

use super::family::{NewModel, misfit, shortest};
use super::gguf::{self, GgufKeys, GgufSizes};
use super::hf_config::HfConfig;
use super::rotary;
use super::tensors::CheckpointTensor;
use crate::config::{
    Activation, Bias, DecoderConfig, Head, LayerConfig, Mlp, Norm, Positions, QkNorm, Rope, RopeScaling,
};
use crate::decoder::{Role, Site, parameter_specs};
use crate::error::ModelLoadError;
use crate::files::Gguf;

/// What differs between the families when a config is read.
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
    let shape = DecoderConfig {
        vocab_size: config.width("vocab_size")?,
        hidden_size,
        intermediate_size: config.width("intermediate_size")?,
        num_attention_heads: heads,
        num_key_value_heads,
        head_dim,
        max_position_embeddings,
        norm: Norm::Rms { eps: config.optional_positive("rms_norm_eps")?.unwrap_or(1e-6) as f32 },
        positions: Positions::Rotary,
        bias: defaults.bias,
        qk_norm: defaults.qk_norm,
        layers: layers(windows, rotary::read(config, max_position_embeddings)?),
        head: if config.flag("tie_word_embeddings", false)? { Head::Tied } else { Head::Separate },
        initializer_range: config.optional_positive("initializer_range")?.unwrap_or(0.02) as f32,
    };
    Ok(shape)
}

/// Layers with these windows that differ in nothing else.
fn layers(windows: Vec<Option<usize>>, rope: Rope) -> Vec<LayerConfig> {
    let mlp = Mlp::Gated(Activation::Silu);
    windows.into_iter().map(|window| LayerConfig { window, rope: Some(rope), mlp }).collect()
}

/// What the `config.json` of these families can express: biases and windows as the family says, this query/key
/// normalisation, and nothing that differs from layer to layer but the window.
pub(super) fn requirements(
    config: &DecoderConfig,
    bias: bool,
    qk_norm: QkNorm,
    windows: bool,
) -> Vec<(bool, &'static str)> {
    let rope = config.layers.first().and_then(|layer| layer.rope);
    let rotary = rope.is_some() && config.layers.iter().all(|layer| layer.rope == rope);
    let mlp = Mlp::Gated(Activation::Silu);
    vec![
        (bias, misfit::BIAS),
        (config.qk_norm == qk_norm, misfit::QK_NORM),
        (matches!(config.norm, Norm::Rms { .. }), misfit::NORM),
        (config.positions == Positions::Rotary && rotary, misfit::POSITIONS),
        (config.layers.iter().all(|layer| layer.mlp == mlp), misfit::MLP),
        (windows, misfit::WINDOWS),
    ]
}

/// Whether all layers that have a window have the same.
pub(super) fn has_one_window_size(config: &DecoderConfig) -> bool {
    let mut sizes = config.windows().flatten();
    let first = sizes.next();
    sizes.all(|size| Some(size) == first)
}

/// The shape that a GGUF file describes; `windows` are those of the family.
pub(super) fn read_gguf(
    keys: &GgufKeys<'_>,
    file: &Gguf,
    defaults: GgufDefaults,
) -> Result<DecoderConfig, ModelLoadError> {
    let sizes = GgufSizes::read(keys, file)?;
    let eps = keys.needed_positive("attention.layer_norm_rms_epsilon")? as f32;
    let rope = gguf::rope(keys, file, sizes.head_dim)?;
    Ok(DecoderConfig {
        vocab_size: sizes.vocab_size,
        hidden_size: sizes.hidden_size,
        intermediate_size: sizes.intermediate_size,
        num_attention_heads: sizes.num_attention_heads,
        num_key_value_heads: sizes.num_key_value_heads,
        head_dim: sizes.head_dim,
        max_position_embeddings: sizes.max_position_embeddings,
        norm: Norm::Rms { eps },
        positions: Positions::Rotary,
        bias: defaults.bias,
        qk_norm: defaults.qk_norm,
        layers: layers(vec![defaults.window; sizes.num_hidden_layers], rope),
        head: sizes.head,
        initializer_range: 0.02,
    })
}

/// What differs between the families when a GGUF file is read.
pub(super) struct GgufDefaults {
    pub(super) bias: Bias,
    pub(super) qk_norm: QkNorm,
    /// Every layer's window.
    pub(super) window: Option<usize>,
}

/// The shape of a new model.
pub(super) fn new_model(model: &NewModel, bias: Bias, qk_norm: QkNorm) -> DecoderConfig {
    let rope = Rope { theta: model.rope_theta, scaling: RopeScaling::Default };
    DecoderConfig {
        vocab_size: model.vocab_size,
        hidden_size: model.hidden_size,
        intermediate_size: model.intermediate_size,
        num_attention_heads: model.num_attention_heads,
        num_key_value_heads: model.num_key_value_heads,
        head_dim: model.head_dim,
        max_position_embeddings: model.max_position_embeddings,
        norm: Norm::Rms { eps: model.eps },
        positions: Positions::Rotary,
        bias,
        qk_norm,
        layers: layers(vec![None; model.num_hidden_layers], rope),
        head: model.head,
        initializer_range: model.initializer_range,
    }
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

/// Writes the keys that say which layers slide; `layer_types` is the one that decides.
pub(super) fn window_keys(config: &DecoderConfig, map: &mut Map<String, Value>) {
    let window = config.windows().flatten().next();
    let first = config.windows().position(|window| window.is_some()).unwrap_or(config.num_hidden_layers());
    let kind = |window: Option<usize>| if window.is_some() { "sliding_attention" } else { "full_attention" };
    map.insert("use_sliding_window".to_owned(), json!(window.is_some()));
    map.insert("sliding_window".to_owned(), json!(window));
    map.insert("max_window_layers".to_owned(), json!(first));
    map.insert("layer_types".to_owned(), config.windows().map(kind).collect());
}

/// The keys of `config.json` that all these families write.
pub(super) fn hf_keys(config: &DecoderConfig) -> Map<String, Value> {
    let mut map = Map::new();
    let mut put = |key: &str, value: Value| map.insert(key.to_owned(), value);
    put("vocab_size", json!(config.vocab_size));
    put("hidden_size", json!(config.hidden_size));
    put("intermediate_size", json!(config.intermediate_size));
    put("num_hidden_layers", json!(config.num_hidden_layers()));
    put("num_attention_heads", json!(config.num_attention_heads));
    put("num_key_value_heads", json!(config.num_key_value_heads));
    put("head_dim", json!(config.head_dim));
    put("hidden_act", json!("silu"));
    put("max_position_embeddings", json!(config.max_position_embeddings));
    put("rms_norm_eps", shortest(config.norm.eps()));
    put("initializer_range", shortest(config.initializer_range));
    put("tie_word_embeddings", json!(config.head == Head::Tied));
    put("attention_dropout", json!(0.0));
    put("use_cache", json!(true));
    rotary::write(config, &mut map);
    map
}

/// One tensor per parameter, `model.layers.N.self_attn.q_proj.weight` and so on.
pub(super) fn checkpoint_tensors(config: &DecoderConfig) -> Vec<CheckpointTensor> {
    let tensor = |role| {
        let bare = bare_name(role);
        match role {
            Role::Head => CheckpointTensor::plain(bare, role),
            _ => CheckpointTensor {
                alternatives: vec![bare.clone()],
                ..CheckpointTensor::plain(format!("model.{bare}"), role)
            },
        }
    };
    parameter_specs(config).into_iter().map(|spec| tensor(spec.role)).collect()
}

/// First parts of the names of the decoder's tensors.
pub(super) const MODULES: &[&str] = &["embed_tokens", "layers", "norm", "lm_head"];

fn bare_name(role: Role) -> String {
    match role {
        Role::TokenEmbedding => "embed_tokens.weight".to_owned(),
        Role::PositionEmbedding => "embed_positions.weight".to_owned(),
        Role::FinalNorm(part) => format!("norm.{}", part.name()),
        Role::Head => "lm_head.weight".to_owned(),
        Role::Block { layer, site, part } => {
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
            format!("layers.{layer}.{site}.{}", part.name())
        }
        // Of no checkpoint: adapters have files of their own.
        Role::LowRank { .. } => role.to_string(),
    }
}

/// Buffers that old checkpoints carry and the decoder computes itself.
pub(super) fn is_buffer(name: &str) -> bool {
    name.ends_with(".rotary_emb.inv_freq")
}
