//! Qwen3 (`Qwen3ForCausalLM`): queries and keys normalised per head; windows by layer.
//! Source: `models/qwen3` in transformers.

use serde_json::{Map, Value, json};

use super::hf_config::HfConfig;
use super::llama_family::{self, LlamaDefaults};
use super::qwen2::window_keys;
use crate::decoder_config::{Bias, DecoderConfig, QkNorm};
use crate::error::ModelLoadError;

pub(super) fn decoder_config(config: &HfConfig<'_>) -> Result<DecoderConfig, ModelLoadError> {
    let bias = if config.flag("attention_bias", false)? { Bias::Attention } else { Bias::None };
    let defaults = LlamaDefaults {
        bias,
        qk_norm: QkNorm::PerHead,
        head_dim: Some(128),
        num_key_value_heads: Some(32),
        max_position_embeddings: 32_768,
    };
    llama_family::decoder_config(config, &defaults, llama_family::windows_by_layer(config)?)
}

pub(super) fn hf_keys(config: &DecoderConfig) -> Map<String, Value> {
    let mut map = llama_family::hf_keys(config);
    map.insert("attention_bias".to_owned(), json!(config.bias.on_qkv()));
    window_keys(config, &mut map);
    map
}
