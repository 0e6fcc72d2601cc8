//! A family of models as the rest of the program sees it: an identifier that knows its configuration and its
//! tensors.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::path::Path;

use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};

use super::family::Family;
use super::hf_config::HfConfig;
use super::tensors::{CheckpointTensor, TIED_HEAD};
use super::{gguf, notices, rotary};
use crate::config::{DecoderConfig, Head};
use crate::error::ModelLoadError;

/// A family of models, by its Hugging Face `model_type`.
#[derive(Clone, Copy)]
pub struct Architecture(pub(super) &'static dyn Family);

impl PartialEq for Architecture {
    fn eq(&self, other: &Self) -> bool {
        self.model_type() == other.model_type()
    }
}

impl Eq for Architecture {}

impl Hash for Architecture {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.model_type().hash(state);
    }
}

impl fmt::Debug for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.model_type())
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.model_type())
    }
}

impl Serialize for Architecture {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.model_type())
    }
}

impl Architecture {
    /// `model_type` in `config.json`.
    pub fn model_type(self) -> &'static str {
        self.0.model_type()
    }

    /// The class in `architectures` of `config.json`.
    pub fn class_name(self) -> &'static str {
        self.0.class_name()
    }

    /// Whether `asked`, the free text of `model.model_type`, means this family: `auto`, the exact name, or a
    /// name without its number (`qwen`).
    pub fn answers_to(self, asked: &str) -> bool {
        let asked = asked.trim().to_ascii_lowercase();
        let own = self.model_type();
        let letters = |text: &str| text.trim_end_matches(|c: char| c.is_ascii_digit()).to_owned();
        asked.is_empty()
            || asked == "auto"
            || asked == own
            || asked == letters(own)
            || self.0.aliases().contains(&asked.as_str())
    }

    /// The shape that a `config.json` of this family describes. `file` is for messages.
    ///
    /// # Errors
    /// `Corrupt` for a missing, ill-typed or contradictory key; `Incompatible` for a value that Parlor does
    /// not support. Each names the key, the file and the family.
    pub fn decoder_config(
        self,
        hf: &Map<String, Value>,
        file: &Path,
    ) -> Result<DecoderConfig, ModelLoadError> {
        let config = HfConfig { map: hf, file, family: self.model_type(), section: String::new() };
        if let Some(quantization) = config.get("quantization_config") {
            let method = quantization.get("quant_method").and_then(Value::as_str).unwrap_or("unnamed");
            return Err(ModelLoadError::incompatible(
                file,
                format!("the weights are quantized (`quantization_config`, method `{method}`)"),
                "this version loads float32, bfloat16 and float16 weights; use the unquantized checkpoint",
            ));
        }
        notices::refuse_unsupported(&config)?;
        let decoder = self.0.read_config(&config)?;
        let problems = decoder.problems();
        if problems.is_empty() {
            Ok(decoder)
        } else {
            Err(ModelLoadError::corrupt(
                file,
                problems.join("; "),
                "restore these keys from the model's original config.json",
            ))
        }
    }

    /// Warnings about a `config.json` of this family: keys that contradict each other, or have no effect.
    pub fn notices(self, hf: &Map<String, Value>, file: &Path) -> Vec<String> {
        let config = HfConfig { map: hf, file, family: self.model_type(), section: String::new() };
        let mut found = notices::of(self.0, &config);
        found.extend(self.0.notices(&config));
        found
    }

    /// The `config.json` of a model of this family and shape, with the keys of transformers 4 and 5 both.
    ///
    /// # Errors
    /// What of the shape this family cannot express, as sentences.
    pub fn hf_config(self, config: &DecoderConfig) -> Result<Map<String, Value>, Vec<String>> {
        let problems = self.misfits(config);
        if !problems.is_empty() {
            return Err(problems);
        }
        let mut map = self.names();
        map.extend(self.0.write_config(config));
        Ok(map)
    }

    /// Brings a kept `config.json` up to date with what is being written: the family, whether the head is the
    /// embedding, and rotary settings in both spellings.
    pub(crate) fn refresh(self, config: &DecoderConfig, map: &mut Map<String, Value>) {
        map.extend(self.names());
        map.insert("vocab_size".to_owned(), json!(config.vocab_size));
        map.insert("tie_word_embeddings".to_owned(), json!(config.head == Head::Tied));
        rotary::write(config, map);
    }

    fn names(self) -> Map<String, Value> {
        let mut map = Map::new();
        map.insert("architectures".to_owned(), json!([self.class_name()]));
        map.insert("model_type".to_owned(), json!(self.model_type()));
        map
    }

    /// What of a shape is inconsistent, or cannot be expressed by this family.
    pub(super) fn misfits(self, config: &DecoderConfig) -> Vec<String> {
        let mut problems = config.problems();
        let unmet = self.0.requirements(config).into_iter().filter(|(met, _)| !met);
        problems.extend(unmet.map(|(_, what)| format!("a {self} model {what}")));
        problems
    }

    /// The tensors that a checkpoint of this family and shape must have.
    pub fn checkpoint_tensors(self, config: &DecoderConfig) -> Vec<CheckpointTensor> {
        self.0.tensors(config)
    }

    /// Whether a tensor's name says that it belongs to one of the decoder's modules: a block, an embedding,
    /// the last norm, the head.
    pub(crate) fn is_inside(self, name: &str) -> bool {
        let bare =
            ["model.", "transformer."].iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name);
        bare.split_once('.').is_some_and(|(module, _)| self.0.modules().contains(&module))
    }

    /// Whether a tensor that no parameter needs is known and left out on purpose.
    pub(crate) fn ignores(self, name: &str, config: &DecoderConfig) -> bool {
        self.0.is_buffer(name) || (config.head == Head::Tied && name == TIED_HEAD)
    }

    /// The tensors that a GGUF file of this family and shape must have.
    pub(crate) fn gguf_tensors(self, config: &DecoderConfig) -> Vec<CheckpointTensor> {
        self.0.gguf_tensors(config)
    }

    /// Whether a tensor of a GGUF file that no parameter needs is known and left out on purpose.
    pub(crate) fn ignores_of_gguf(self, name: &str, config: &DecoderConfig) -> bool {
        gguf::is_rope_factors(name, config)
    }
}
