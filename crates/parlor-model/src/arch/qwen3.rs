//! Qwen3 (`Qwen3ForCausalLM`): queries and keys normalised per head; windows by layer.
//! Source: `models/qwen3` in transformers.

use serde_json::{Map, Value, json};

use super::architecture::Architecture;
use super::family::{Family, NewModel};
use super::gguf::{self, GgufKeys, QkvLayout};
use super::hf_config::HfConfig;
use super::llama_family::{self, GgufDefaults, LlamaDefaults};
use super::rotary;
use super::tensors::CheckpointTensor;
use crate::config::{Bias, DecoderConfig, QkNorm};
use crate::error::ModelLoadError;
use crate::files::Gguf;

/// The family.
pub(super) struct Qwen3;

impl Architecture {
    /// Qwen3.
    pub const QWEN3: Architecture = Architecture(&Qwen3);
}

impl Family for Qwen3 {
    fn model_type(&self) -> &'static str {
        "qwen3"
    }

    fn class_name(&self) -> &'static str {
        "Qwen3ForCausalLM"
    }

    fn summary(&self) -> &'static str {
        "Qwen3."
    }

    fn read_config(&self, config: &HfConfig<'_>) -> Result<DecoderConfig, ModelLoadError> {
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

    fn write_config(&self, config: &DecoderConfig) -> Map<String, Value> {
        let mut map = llama_family::hf_keys(config);
        map.insert("attention_bias".to_owned(), json!(config.bias.on_qkv()));
        llama_family::window_keys(config, &mut map);
        map
    }

    fn requirements(&self, config: &DecoderConfig) -> Vec<(bool, &'static str)> {
        let bias = matches!(config.bias, Bias::None | Bias::Attention);
        let windows = llama_family::has_one_window_size(config);
        llama_family::requirements(config, bias, QkNorm::PerHead, windows)
    }

    fn notices(&self, config: &HfConfig<'_>) -> Vec<String> {
        rotary::notices(config)
    }

    fn tensors(&self, config: &DecoderConfig) -> Vec<CheckpointTensor> {
        llama_family::checkpoint_tensors(config)
    }

    fn modules(&self) -> &'static [&'static str] {
        llama_family::MODULES
    }

    fn is_buffer(&self, name: &str) -> bool {
        llama_family::is_buffer(name)
    }

    fn read_gguf(&self, keys: &GgufKeys<'_>, file: &Gguf) -> Result<DecoderConfig, ModelLoadError> {
        let defaults = GgufDefaults { bias: gguf::bias(file), qk_norm: QkNorm::PerHead, window: None };
        llama_family::read_gguf(keys, file, defaults)
    }

    fn gguf_tensors(&self, config: &DecoderConfig) -> Vec<CheckpointTensor> {
        gguf::tensors(config, QkvLayout::Plain)
    }

    fn new_model(&self, model: &NewModel) -> DecoderConfig {
        llama_family::new_model(model, Bias::None, QkNorm::PerHead)
    }
}
