//! What a family of models must say about itself: one implementation of [`Family`] in one file, and one line
//! in `registry.rs`.

use serde_json::{Map, Value};

use super::gguf::GgufKeys;
use super::hf_config::HfConfig;
use super::tensors::CheckpointTensor;
use crate::config::{DecoderConfig, Head};
use crate::error::ModelLoadError;
use crate::files::Gguf;

/// A family of models: its names, its configuration, its tensors, in both file formats.
pub(crate) trait Family: Sync {
    /// `model_type` in `config.json`, and the family's name in Parlor's configuration.
    fn model_type(&self) -> &'static str;

    /// The class in `architectures` of `config.json`.
    fn class_name(&self) -> &'static str;

    /// Which models it covers: a sentence for the configuration reference.
    fn summary(&self) -> &'static str;

    /// Further names that `model.model_type` may have.
    fn aliases(&self) -> &'static [&'static str] {
        &[]
    }

    /// The shape that a `config.json` describes.
    ///
    /// # Errors
    /// `Corrupt` for a missing, ill-typed or contradictory key; `Incompatible` for a value that Parlor does
    /// not support.
    fn read_config(&self, config: &HfConfig<'_>) -> Result<DecoderConfig, ModelLoadError>;

    /// The keys of the `config.json` of a shape that meets [`Self::requirements`], without `model_type` and
    /// `architectures`.
    fn write_config(&self, config: &DecoderConfig) -> Map<String, Value>;

    /// Warnings about a `config.json`: keys that contradict each other, or have no effect.
    fn notices(&self, config: &HfConfig<'_>) -> Vec<String>;

    /// What of a shape the family's `config.json` can express: whether the shape meets it, and what to say if
    /// not.
    fn requirements(&self, config: &DecoderConfig) -> Vec<(bool, &'static str)>;

    /// The tensors that a safetensors checkpoint of this shape must have.
    fn tensors(&self, config: &DecoderConfig) -> Vec<CheckpointTensor>;

    /// First parts of the names of the decoder's tensors, after the prefix.
    fn modules(&self) -> &'static [&'static str];

    /// Whether a tensor is a buffer that the decoder computes itself.
    fn is_buffer(&self, name: &str) -> bool;

    /// `general.architecture` in GGUF files, the prefix of their keys.
    fn gguf_name(&self) -> &'static str {
        self.model_type()
    }

    /// Whether a GGUF file holds a model of this family.
    ///
    /// # Errors
    /// For an ill-typed key.
    fn is_in_gguf(&self, keys: &GgufKeys<'_>) -> Result<bool, ModelLoadError> {
        Ok(keys.family == self.gguf_name())
    }

    /// The shape that a GGUF file's metadata describe.
    ///
    /// # Errors
    /// Those of [`Self::read_config`].
    fn read_gguf(&self, keys: &GgufKeys<'_>, file: &Gguf) -> Result<DecoderConfig, ModelLoadError>;

    /// The tensors that a GGUF file of this shape must have.
    fn gguf_tensors(&self, config: &DecoderConfig) -> Vec<CheckpointTensor>;

    /// The shape of a new model.
    fn new_model(&self, model: &NewModel) -> DecoderConfig;

    /// Whether several query heads may share a key/value head.
    fn has_grouped_queries(&self) -> bool {
        true
    }
}

/// The sizes of a new model, which its family completes to a [`DecoderConfig`].
pub(crate) struct NewModel {
    pub(crate) vocab_size: usize,
    pub(crate) hidden_size: usize,
    pub(crate) intermediate_size: usize,
    pub(crate) num_hidden_layers: usize,
    pub(crate) num_attention_heads: usize,
    pub(crate) num_key_value_heads: usize,
    pub(crate) head_dim: usize,
    pub(crate) max_position_embeddings: usize,
    pub(crate) eps: f32,
    pub(crate) rope_theta: f64,
    pub(crate) head: Head,
    pub(crate) initializer_range: f32,
}

/// What to say of a shape that a family cannot express.
pub(super) mod misfit {
    pub(in super::super) const BIAS: &str = "cannot have biases on these layers";
    pub(in super::super) const QK_NORM: &str = "cannot have this query/key normalisation";
    pub(in super::super) const NORM: &str = "cannot have this normalisation";
    pub(in super::super) const POSITIONS: &str = "cannot have these position embeddings";
    pub(in super::super) const MLP: &str = "cannot have this MLP";
    pub(in super::super) const WINDOWS: &str = "cannot have these attention windows";
}

/// The f32 in its shortest decimal form: 1e-6, not 9.999999974752427e-7.
pub(super) fn shortest(value: f32) -> Value {
    value.to_string().parse::<f64>().map_or(Value::from(value), Value::from)
}
