//! Mistral (`MistralForCausalLM`): every layer has the same sliding window, or none has.
//! Source: `models/mistral` in transformers.

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
pub(super) struct Mistral;

impl Architecture {
    /// Mistral.
    pub const MISTRAL: Architecture = Architecture(&Mistral);
}

impl Family for Mistral {
    fn model_type(&self) -> &'static str {
        "mistral"
    }

    fn class_name(&self) -> &'static str {
        "MistralForCausalLM"
    }

    fn summary(&self) -> &'static str {
        "Mistral."
    }

    fn read_config(&self, config: &HfConfig<'_>) -> Result<DecoderConfig, ModelLoadError> {
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

    fn write_config(&self, config: &DecoderConfig) -> Map<String, Value> {
        let mut map = llama_family::hf_keys(config);
        map.insert("sliding_window".to_owned(), json!(config.windows().next().flatten()));
        map
    }

    fn requirements(&self, config: &DecoderConfig) -> Vec<(bool, &'static str)> {
        let uniform = config.windows().zip(config.windows().skip(1)).all(|(window, next)| window == next);
        llama_family::requirements(config, config.bias == Bias::None, QkNorm::None, uniform)
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

    fn gguf_name(&self) -> &'static str {
        "llama"
    }

    fn is_in_gguf(&self, keys: &GgufKeys<'_>) -> Result<bool, ModelLoadError> {
        Ok(keys.family == self.gguf_name() && keys.window()?.is_some())
    }

    fn read_gguf(&self, keys: &GgufKeys<'_>, file: &Gguf) -> Result<DecoderConfig, ModelLoadError> {
        let window = keys.window()?;
        let defaults = GgufDefaults { bias: gguf::bias(file), qk_norm: QkNorm::None, window };
        llama_family::read_gguf(keys, file, defaults)
    }

    fn gguf_tensors(&self, config: &DecoderConfig) -> Vec<CheckpointTensor> {
        gguf::tensors(config, QkvLayout::Interleaved)
    }

    fn new_model(&self, model: &NewModel) -> DecoderConfig {
        llama_family::new_model(model, Bias::None, QkNorm::None)
    }
}
