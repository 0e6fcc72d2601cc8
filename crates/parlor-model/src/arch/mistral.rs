//! Mistral (`MistralForCausalLM`): every layer has the same sliding window, or none has.
//! Source: `models/mistral` in transformers.

use serde_json::{Map, Value, json};

use super::hf_config::HfConfig;
use super::llama_family::{self, LlamaDefaults};
use crate::decoder_config::{Bias, DecoderConfig, QkNorm};
use crate::error::ModelLoadError;

pub(super) fn decoder_config(config: &HfConfig<'_>) -> Result<DecoderConfig, ModelLoadError> {
    let window = match config.optional_context("sliding_window")? {
        Some(window) => Some(window),
        None if config.is_null("sliding_window") => None,
        None => Some(llama_family::DEFAULT_WINDOW),
    };
    if let (Some(types), Some(_)) = (config.get("layer_types"), window) {
        let all_slide =
            types.as_array().is_some_and(|list| list.iter().all(|kind| kind == "sliding_attention"));
        if !all_slide {
            return Err(config.unsupported("layer_types", types, "one sliding window for all layers"));
        }
    }
    let defaults = LlamaDefaults {
        bias: Bias::None,
        qk_norm: QkNorm::None,
        head_dim: None,
        num_key_value_heads: Some(8),
        max_position_embeddings: 131_072,
    };
    let windows = vec![window; config.layers("num_hidden_layers")?];
    llama_family::decoder_config(config, &defaults, windows)
}

pub(super) fn hf_keys(config: &DecoderConfig) -> Map<String, Value> {
    let mut map = llama_family::hf_keys(config);
    map.insert("sliding_window".to_owned(), json!(config.windows.first().copied().flatten()));
    map
}
