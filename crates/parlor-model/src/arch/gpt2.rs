//! GPT-2 and DialoGPT (`GPT2LMHeadModel`). Source: `models/gpt2` in transformers.
//!
//! Its linear layers are `Conv1D`: `[in, out]` on disk, with query, key and value in one tensor. The published
//! base checkpoints have no `transformer.` prefix and carry causal-mask buffers, which are ignored.
//! Leaves out: dropout (`*_pdrop`, which only training would use), cross attention.

use serde_json::{Map, Value, json};

use super::architecture::Architecture;
use super::family::{Family, NewModel, misfit, shortest};
use super::gguf::{self, GgufKeys, GgufSizes, QkvLayout};
use super::hf_config::HfConfig;
use super::tensors::{CheckpointTensor, TIED_HEAD};
use crate::config::{Activation, Bias, DecoderConfig, Head, LayerConfig, Mlp, Norm, Positions, QkNorm};
use crate::decoder::{ParameterPart, Role, Site, TensorLayout};
use crate::error::ModelLoadError;
use crate::files::Gguf;

/// The family.
pub(super) struct Gpt2;

impl Architecture {
    /// GPT-2 and DialoGPT.
    pub const GPT2: Architecture = Architecture(&Gpt2);
}

/// Every layer is the same.
const LAYER: LayerConfig = LayerConfig { window: None, rope: None, mlp: Mlp::Plain(Activation::GeluTanh) };

impl Family for Gpt2 {
    fn model_type(&self) -> &'static str {
        "gpt2"
    }

    fn class_name(&self) -> &'static str {
        "GPT2LMHeadModel"
    }

    fn summary(&self) -> &'static str {
        "GPT-2 and DialoGPT."
    }

    fn aliases(&self) -> &'static [&'static str] {
        &["dialogpt", "gpt-2"]
    }

    fn read_config(&self, config: &HfConfig<'_>) -> Result<DecoderConfig, ModelLoadError> {
        decoder_config(config)
    }

    fn write_config(&self, config: &DecoderConfig) -> Map<String, Value> {
        hf_keys(config)
    }

    fn notices(&self, config: &HfConfig<'_>) -> Vec<String> {
        notices(config)
    }

    fn requirements(&self, config: &DecoderConfig) -> Vec<(bool, &'static str)> {
        let plain_heads = config.num_key_value_heads == config.num_attention_heads
            && config.head_dim.checked_mul(config.num_attention_heads) == Some(config.hidden_size);
        let positions = config.positions == Positions::Learned;
        vec![
            (config.bias == Bias::All, misfit::BIAS),
            (config.qk_norm == QkNorm::None, misfit::QK_NORM),
            (matches!(config.norm, Norm::Layer { .. }), misfit::NORM),
            (positions, misfit::POSITIONS),
            (config.layers.iter().all(|layer| layer.mlp == LAYER.mlp), misfit::MLP),
            (config.windows().all(|window| window.is_none()), misfit::WINDOWS),
            (plain_heads, "needs as many key/value heads as heads, of width hidden_size / heads"),
        ]
    }

    fn tensors(&self, config: &DecoderConfig) -> Vec<CheckpointTensor> {
        checkpoint_tensors(config)
    }

    fn modules(&self) -> &'static [&'static str] {
        &["wte", "wpe", "h", "ln_f", "lm_head"]
    }

    // The causal-mask buffers `h.N.attn.bias` and `h.N.attn.masked_bias`.
    fn is_buffer(&self, name: &str) -> bool {
        name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias")
    }

    fn read_gguf(&self, keys: &GgufKeys<'_>, file: &Gguf) -> Result<DecoderConfig, ModelLoadError> {
        let sizes = GgufSizes::read(keys, file)?;
        let eps = keys.needed_positive("attention.layer_norm_epsilon")? as f32;
        Ok(DecoderConfig {
            vocab_size: sizes.vocab_size,
            hidden_size: sizes.hidden_size,
            intermediate_size: sizes.intermediate_size,
            num_attention_heads: sizes.num_attention_heads,
            num_key_value_heads: sizes.num_key_value_heads,
            head_dim: sizes.head_dim,
            max_position_embeddings: sizes.max_position_embeddings,
            norm: Norm::Layer { eps },
            positions: Positions::Learned,
            bias: Bias::All,
            qk_norm: QkNorm::None,
            layers: vec![LAYER; sizes.num_hidden_layers],
            head: sizes.head,
            initializer_range: 0.02,
        })
    }

    fn gguf_tensors(&self, config: &DecoderConfig) -> Vec<CheckpointTensor> {
        gguf::tensors(config, QkvLayout::Fused)
    }

    fn new_model(&self, model: &NewModel) -> DecoderConfig {
        DecoderConfig {
            vocab_size: model.vocab_size,
            hidden_size: model.hidden_size,
            intermediate_size: model.intermediate_size,
            num_attention_heads: model.num_attention_heads,
            num_key_value_heads: model.num_key_value_heads,
            head_dim: model.head_dim,
            max_position_embeddings: model.max_position_embeddings,
            norm: Norm::Layer { eps: model.eps },
            positions: Positions::Learned,
            bias: Bias::All,
            qk_norm: QkNorm::None,
            layers: vec![LAYER; model.num_hidden_layers],
            head: model.head,
            initializer_range: model.initializer_range,
        }
    }

    fn has_grouped_queries(&self) -> bool {
        false
    }
}

/// Names of this family, and the general ones that transformers accepts for them (`attribute_map`).
const NAMES: [(&str, &str); 4] = [
    ("n_embd", "hidden_size"),
    ("n_head", "num_attention_heads"),
    ("n_layer", "num_hidden_layers"),
    ("n_positions", "max_position_embeddings"),
];

/// The key that counts for `own`: the general one where it is present, as in transformers, which sets it last.
fn name<'k>(config: &HfConfig<'_>, own: &'k str) -> &'k str {
    let general = NAMES.into_iter().find(|(name, _)| *name == own).map(|(_, general)| general);
    general.filter(|general| config.get(general).is_some()).unwrap_or(own)
}

/// Warnings about keys that mean the same and differ.
fn notices(config: &HfConfig<'_>) -> Vec<String> {
    let differs = |&(own, general): &(&str, &str)| {
        let (first, second) = (config.get(own)?, config.get(general)?);
        (first != second).then(|| {
            format!(
                "config.json has `{own}: {first}` and `{general}: {second}`, which mean the same; the latter counts, as in \
                 transformers"
            )
        })
    };
    NAMES.iter().filter_map(differs).collect()
}

fn decoder_config(config: &HfConfig<'_>) -> Result<DecoderConfig, ModelLoadError> {
    for (key, supported, absent) in [
        ("scale_attn_weights", true, true),
        ("scale_attn_by_inverse_layer_idx", false, false),
        ("add_cross_attention", false, false),
    ] {
        let found = config.flag(key, absent)?;
        if found != supported {
            return Err(config.unsupported(key, &json!(found), &format!("`{key}: {supported}`")));
        }
    }
    match config.optional_text("activation_function")? {
        None if config.is_null("activation_function") => return Err(config.missing("activation_function")),
        None | Some("gelu_new" | "gelu_pytorch_tanh") => {}
        Some(other) => {
            let supported = "`gelu_new` and `gelu_pytorch_tanh`";
            return Err(config.unsupported("activation_function", &json!(other), supported));
        }
    }
    let hidden_size = config.width(name(config, "n_embd"))?;
    let heads = config.heads(name(config, "n_head"))?;
    if !hidden_size.is_multiple_of(heads) {
        return Err(ModelLoadError::corrupt(
            config.file,
            format!("`n_embd` ({hidden_size}) is not a multiple of `n_head` ({heads})"),
            "restore these keys from the model's original config.json",
        ));
    }
    let layers = config.layers(name(config, "n_layer"))?;
    Ok(DecoderConfig {
        vocab_size: config.width("vocab_size")?,
        hidden_size,
        intermediate_size: config.optional_width("n_inner")?.unwrap_or(4 * hidden_size),
        num_attention_heads: heads,
        num_key_value_heads: heads,
        head_dim: hidden_size / heads,
        max_position_embeddings: match config.optional_context(name(config, "n_positions"))? {
            None if !config.is_null("n_positions") => 1024,
            Some(length) => length,
            None => return Err(config.missing("n_positions")),
        },
        norm: Norm::Layer { eps: config.optional_positive("layer_norm_epsilon")?.unwrap_or(1e-5) as f32 },
        positions: Positions::Learned,
        bias: Bias::All,
        qk_norm: QkNorm::None,
        layers: vec![LAYER; layers],
        head: if config.flag("tie_word_embeddings", true)? { Head::Tied } else { Head::Separate },
        initializer_range: config.optional_positive("initializer_range")?.unwrap_or(0.02) as f32,
    })
}

fn hf_keys(config: &DecoderConfig) -> Map<String, Value> {
    let mut map = Map::new();
    let mut put = |key: &str, value: Value| map.insert(key.to_owned(), value);
    put("vocab_size", json!(config.vocab_size));
    put("n_embd", json!(config.hidden_size));
    put("n_layer", json!(config.num_hidden_layers()));
    put("n_head", json!(config.num_attention_heads));
    put("n_inner", json!(config.intermediate_size));
    put("n_positions", json!(config.max_position_embeddings));
    put("n_ctx", json!(config.max_position_embeddings));
    put("activation_function", json!("gelu_new"));
    put("layer_norm_epsilon", shortest(config.norm.eps()));
    put("initializer_range", shortest(config.initializer_range));
    put("tie_word_embeddings", json!(config.head == Head::Tied));
    put("scale_attn_weights", json!(true));
    put("scale_attn_by_inverse_layer_idx", json!(false));
    put("reorder_and_upcast_attn", json!(false));
    for key in ["resid_pdrop", "embd_pdrop", "attn_pdrop"] {
        put(key, json!(0.0));
    }
    put("use_cache", json!(true));
    map
}

fn checkpoint_tensors(config: &DecoderConfig) -> Vec<CheckpointTensor> {
    let mut tensors = Vec::new();
    let mut push = |bare: String, layout, roles: Vec<Role>| {
        tensors.push(CheckpointTensor {
            name: format!("transformer.{bare}"),
            alternatives: vec![bare],
            layout,
            roles,
        });
    };
    push("wte.weight".to_owned(), TensorLayout::Plain, vec![Role::TokenEmbedding]);
    push("wpe.weight".to_owned(), TensorLayout::Plain, vec![Role::PositionEmbedding]);
    for layer in 0..config.num_hidden_layers() {
        for (part, suffix) in [(ParameterPart::Weight, "weight"), (ParameterPart::Bias, "bias")] {
            let role = |site| Role::Block { layer, site, part };
            // A bias has one dimension: nothing to transpose.
            let conv =
                if part == ParameterPart::Weight { TensorLayout::Transposed } else { TensorLayout::Plain };
            let qkv = vec![role(Site::QProj), role(Site::KProj), role(Site::VProj)];
            push(format!("h.{layer}.ln_1.{suffix}"), TensorLayout::Plain, vec![role(Site::InputNorm)]);
            push(format!("h.{layer}.attn.c_attn.{suffix}"), conv, qkv);
            push(format!("h.{layer}.attn.c_proj.{suffix}"), conv, vec![role(Site::OProj)]);
            push(
                format!("h.{layer}.ln_2.{suffix}"),
                TensorLayout::Plain,
                vec![role(Site::PostAttentionNorm)],
            );
            push(format!("h.{layer}.mlp.c_fc.{suffix}"), conv, vec![role(Site::UpProj)]);
            push(format!("h.{layer}.mlp.c_proj.{suffix}"), conv, vec![role(Site::DownProj)]);
        }
    }
    push("ln_f.weight".to_owned(), TensorLayout::Plain, vec![Role::FinalNorm(ParameterPart::Weight)]);
    push("ln_f.bias".to_owned(), TensorLayout::Plain, vec![Role::FinalNorm(ParameterPart::Bias)]);
    if config.head == Head::Separate {
        tensors.push(CheckpointTensor::plain(TIED_HEAD, Role::Head));
    }
    tensors
}
