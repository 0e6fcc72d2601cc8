//! Llama 2 and 3.x (`LlamaForCausalLM`). Source: `models/llama` in transformers.

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
pub(super) struct Llama;

impl Architecture {
    /// Llama 2 and 3.x.
    pub const LLAMA: Architecture = Architecture(&Llama);
}

impl Family for Llama {
    fn model_type(&self) -> &'static str {
        "llama"
    }

    fn class_name(&self) -> &'static str {
        "LlamaForCausalLM"
    }

    fn summary(&self) -> &'static str {
        "Llama 2 and 3.x."
    }

    fn read_config(&self, config: &HfConfig<'_>) -> Result<DecoderConfig, ModelLoadError> {
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

    fn write_config(&self, config: &DecoderConfig) -> Map<String, Value> {
        let mut map = llama_family::hf_keys(config);
        map.insert("attention_bias".to_owned(), json!(config.bias.on_qkv()));
        map.insert("mlp_bias".to_owned(), json!(config.bias.on_mlp()));
        map.insert("pretraining_tp".to_owned(), json!(1));
        map
    }

    fn requirements(&self, config: &DecoderConfig) -> Vec<(bool, &'static str)> {
        let windowless = config.windows().all(|window| window.is_none());
        llama_family::requirements(config, config.bias != Bias::Qkv, QkNorm::None, windowless)
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

    // GGUF files name Mistral's models so too; only those have windows.
    fn is_in_gguf(&self, keys: &GgufKeys<'_>) -> Result<bool, ModelLoadError> {
        Ok(keys.family == self.gguf_name() && keys.window()?.is_none())
    }

    fn read_gguf(&self, keys: &GgufKeys<'_>, file: &Gguf) -> Result<DecoderConfig, ModelLoadError> {
        let defaults = GgufDefaults { bias: gguf::bias(file), qk_norm: QkNorm::None, window: None };
        llama_family::read_gguf(keys, file, defaults)
    }

    fn gguf_tensors(&self, config: &DecoderConfig) -> Vec<CheckpointTensor> {
        gguf::tensors(config, QkvLayout::Interleaved)
    }

    fn new_model(&self, model: &NewModel) -> DecoderConfig {
        llama_family::new_model(model, Bias::None, QkNorm::None)
    }
}
