//! Llama 2 and 3.x (`LlamaForCausalLM`). Source: `models/llama` in transformers.

use serde_json::{Map, Value, json};

use super::hf_config::HfConfig;
use super::llama_family::{self, LlamaDefaults};
use crate::decoder_config::{Bias, DecoderConfig, QkNorm};
use crate::error::ModelLoadError;

pub(super) fn decoder_config(config: &HfConfig<'_>) -> Result<DecoderConfig, ModelLoadError> {
    let bias = match (config.flag("attention_bias", false)?, config.flag("mlp_bias", false)?) {
        (false, false) => Bias::None,
        (true, false) => Bias::Attention,
        (false, true) => Bias::Mlp,
        (true, true) => Bias::All,
    };
    let defaults = LlamaDefaults {
        bias,
        qk_norm: QkNorm::None,
        head_dim: None,
        num_key_value_heads: None,
        max_position_embeddings: 2_048,
    };
    let windows = vec![None; config.layers("num_hidden_layers")?];
    llama_family::decoder_config(config, &defaults, windows)
}

pub(super) fn hf_keys(config: &DecoderConfig) -> Map<String, Value> {
    let mut map = llama_family::hf_keys(config);
    map.insert("attention_bias".to_owned(), json!(config.bias.on_qkv()));
    map.insert("mlp_bias".to_owned(), json!(config.bias.on_mlp()));
    map.insert("pretraining_tp".to_owned(), json!(1));
    map
}
