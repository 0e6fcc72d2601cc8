//! Qwen2 and Qwen2.5 (`Qwen2ForCausalLM`): biases on query, key and value; windows by layer.
//! Source: `models/qwen2` in transformers.

use serde_json::{Map, Value, json};

use super::hf_config::HfConfig;
use super::llama_family::{self, LlamaDefaults};
use crate::decoder_config::{Bias, DecoderConfig, QkNorm};
use crate::error::ModelLoadError;

pub(super) fn decoder_config(config: &HfConfig<'_>) -> Result<DecoderConfig, ModelLoadError> {
    let defaults = LlamaDefaults {
        bias: Bias::Qkv,
        qk_norm: QkNorm::None,
        head_dim: None,
        num_key_value_heads: Some(32),
        max_position_embeddings: 32_768,
    };
    llama_family::decoder_config(config, &defaults, llama_family::windows_by_layer(config)?)
}

pub(super) fn hf_keys(config: &DecoderConfig) -> Map<String, Value> {
    let mut map = llama_family::hf_keys(config);
    window_keys(config, &mut map);
    map
}

/// The keys that say which layers slide; `layer_types` is the one that decides.
pub(super) fn window_keys(config: &DecoderConfig, map: &mut Map<String, Value>) {
    let window = config.windows.iter().flatten().next();
    let first = config.windows.iter().position(Option::is_some).unwrap_or(config.num_hidden_layers);
    let types: Vec<&str> = config
        .windows
        .iter()
        .map(|window| if window.is_some() { "sliding_attention" } else { "full_attention" })
        .collect();
    map.insert("use_sliding_window".to_owned(), json!(window.is_some()));
    map.insert("sliding_window".to_owned(), json!(window));
    map.insert("max_window_layers".to_owned(), json!(first));
    map.insert("layer_types".to_owned(), json!(types));
}
