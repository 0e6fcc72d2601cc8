//! Vendors: which families there are, what their `config.json` means, and what their tensors are called.
//!
//! Everything that knows a vendor is in this directory, and none of it computes.

pub(crate) mod gguf;
mod gpt2;
mod hf_config;
mod llama;
mod llama_family;
mod mistral;
mod notices;
mod presets;
mod qwen2;
mod qwen3;
mod rotary;
mod tensors;

use std::fmt;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

pub use presets::{ArchitectureBlock, ModelPreset, PresetError};
pub use tensors::{CheckpointTensor, TensorLayout};

use crate::decoder_config::{Activation, Bias, DecoderConfig, Head, Mlp, Norm, Positions, QkNorm};
use crate::error::ModelLoadError;
use hf_config::HfConfig;
pub(crate) use hf_config::dropout;

/// The model that `model.name` is by default.
pub(crate) const DEFAULT_MODEL_NAME: &str = "Qwen/Qwen2.5-3B";
/// What `model.model_type` is by default.
pub(crate) const DEFAULT_MODEL_TYPE: &str = "qwen";

/// A family of models, by its Hugging Face `model_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// Qwen2 and Qwen2.5.
    Qwen2,
    /// Qwen3.
    Qwen3,
    /// Llama 2 and 3.x.
    Llama,
    /// Mistral.
    Mistral,
    /// GPT-2 and DialoGPT.
    Gpt2,
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.model_type())
    }
}

impl Architecture {
    /// All of them.
    pub const ALL: [Architecture; 5] = [
        Architecture::Qwen2,
        Architecture::Qwen3,
        Architecture::Llama,
        Architecture::Mistral,
        Architecture::Gpt2,
    ];

    /// `model_type` in `config.json`.
    pub fn model_type(self) -> &'static str {
        match self {
            Architecture::Qwen2 => "qwen2",
            Architecture::Qwen3 => "qwen3",
            Architecture::Llama => "llama",
            Architecture::Mistral => "mistral",
            Architecture::Gpt2 => "gpt2",
        }
    }

    /// The class in `architectures` of `config.json`.
    pub fn class_name(self) -> &'static str {
        match self {
            Architecture::Qwen2 => "Qwen2ForCausalLM",
            Architecture::Qwen3 => "Qwen3ForCausalLM",
            Architecture::Llama => "LlamaForCausalLM",
            Architecture::Mistral => "MistralForCausalLM",
            Architecture::Gpt2 => "GPT2LMHeadModel",
        }
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
            || (self == Architecture::Gpt2 && matches!(asked.as_str(), "dialogpt" | "gpt-2"))
    }

    fn supported() -> String {
        Self::ALL.map(|family| format!("`{}` ({})", family.model_type(), family.class_name())).join(", ")
    }

    /// The family that a `config.json` names.
    ///
    /// # Errors
    /// `Incompatible` for a family that Parlor does not run; `Corrupt` when the file names none.
    pub fn of(hf: &Map<String, Value>, file: &Path) -> Result<Self, ModelLoadError> {
        let model_type = hf.get("model_type").and_then(Value::as_str);
        let class = hf.get("architectures").and_then(|list| list.get(0)).and_then(Value::as_str);
        let help = format!("use a model of a supported family: {}", Self::supported());
        let Some(found) = model_type.or(class) else {
            return Err(ModelLoadError::corrupt(
                file,
                "the key `model_type` is missing, so the model's family is unknown",
                format!("add `model_type`: {}", Self::supported()),
            ));
        };
        let family = match model_type {
            Some(name) => Self::ALL.into_iter().find(|family| family.model_type() == name),
            None => Self::ALL.into_iter().find(|family| Some(family.class_name()) == class),
        };
        let Some(family) = family else {
            let what = match notices::remote_code(hf) {
                true => format!(
                    "this model (`{found}`) needs code from its repository (`auto_map`), and Parlor runs no remote code, \
                     whatever `trust_remote_code` says"
                ),
                false => format!("models of type `{found}` are not supported"),
            };
            return Err(ModelLoadError::incompatible(file, what, help));
        };
        // A classifier of a supported family has another head.
        if let Some(class) = class
            && class.contains("For")
            && !class.to_ascii_lowercase().contains("forcausallm")
        {
            return Err(ModelLoadError::incompatible(
                file,
                format!("this is a `{class}`, which is not a causal language model"),
                format!("use a `{}` checkpoint", family.class_name()),
            ));
        }
        Ok(family)
    }

    /// The shape that a `config.json` of this family describes. `file` is for messages.
    ///
    /// # Errors
    /// `Corrupt` for a missing, ill-typed or contradictory key; `Incompatible` for a value that Parlor does not
    /// support. Each names the key, the file and the family.
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
        let decoder = match self {
            Architecture::Qwen2 => qwen2::decoder_config(&config),
            Architecture::Qwen3 => qwen3::decoder_config(&config),
            Architecture::Llama => llama::decoder_config(&config),
            Architecture::Mistral => mistral::decoder_config(&config),
            Architecture::Gpt2 => gpt2::decoder_config(&config),
        }?;
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

    /// What is odd about a `config.json` of this family that can be read: what it says twice, or in vain.
    pub fn notices(self, hf: &Map<String, Value>, file: &Path) -> Vec<String> {
        let config = HfConfig { map: hf, file, family: self.model_type(), section: String::new() };
        notices::of(self, &config)
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
        let mut map = Map::new();
        map.insert("architectures".to_owned(), json!([self.class_name()]));
        map.insert("model_type".to_owned(), json!(self.model_type()));
        map.extend(match self {
            Architecture::Qwen2 => qwen2::hf_keys(config),
            Architecture::Qwen3 => qwen3::hf_keys(config),
            Architecture::Llama => llama::hf_keys(config),
            Architecture::Mistral => mistral::hf_keys(config),
            Architecture::Gpt2 => gpt2::hf_keys(config),
        });
        Ok(map)
    }

    /// Brings a kept `config.json` up to date with what is being written: whether the head is the embedding, and rotary settings in both
    /// spellings.
    pub(crate) fn refresh(self, config: &DecoderConfig, map: &mut Map<String, Value>) {
        map.insert("architectures".to_owned(), json!([self.class_name()]));
        map.insert("model_type".to_owned(), json!(self.model_type()));
        map.insert("vocab_size".to_owned(), json!(config.vocab_size));
        map.insert("tie_word_embeddings".to_owned(), json!(config.head == Head::Tied));
        rotary::write(config, map);
    }

    fn misfits(self, config: &DecoderConfig) -> Vec<String> {
        let mut problems = config.problems();
        let mut expect = |fits: bool, what: &str| {
            if !fits {
                problems.push(format!("a {self} model {what}"));
            }
        };
        let gpt2 = self == Architecture::Gpt2;
        let uniform = config.windows.windows(2).all(|pair| pair[0] == pair[1]);
        let sliding = config.windows.iter().any(Option::is_some);
        let one_size = {
            let mut sizes = config.windows.iter().flatten();
            let first = sizes.next();
            sizes.all(|size| Some(size) == first)
        };
        let bias_fits = match self {
            Architecture::Qwen2 => config.bias == Bias::Qkv,
            Architecture::Qwen3 => matches!(config.bias, Bias::None | Bias::Attention),
            Architecture::Llama => config.bias != Bias::Qkv,
            Architecture::Mistral => config.bias == Bias::None,
            Architecture::Gpt2 => config.bias == Bias::All,
        };
        expect(bias_fits, "cannot have biases on these layers");
        let qk_norm = self == Architecture::Qwen3;
        expect((config.qk_norm == QkNorm::PerHead) == qk_norm, "cannot have this query/key normalisation");
        let norm_fits = matches!(config.norm, Norm::Layer { .. }) == gpt2;
        expect(norm_fits, "cannot have this normalisation");
        expect((config.positions == Positions::Learned) == gpt2, "cannot have these position embeddings");
        let mlp = if gpt2 { Mlp::Plain(Activation::GeluTanh) } else { Mlp::Gated(Activation::Silu) };
        expect(config.mlp == mlp, "cannot have this MLP");
        let windows_fit = match self {
            Architecture::Qwen2 | Architecture::Qwen3 => one_size,
            Architecture::Mistral => uniform,
            Architecture::Llama | Architecture::Gpt2 => !sliding,
        };
        expect(windows_fit, "cannot have these attention windows");
        if gpt2 {
            let plain = config.num_key_value_heads == config.num_attention_heads
                && config.head_dim.checked_mul(config.num_attention_heads) == Some(config.hidden_size);
            expect(plain, "needs as many key/value heads as heads, of width hidden_size / heads");
        }
        problems
    }

    /// The tensors that a checkpoint of this family and shape must have.
    pub fn checkpoint_tensors(self, config: &DecoderConfig) -> Vec<CheckpointTensor> {
        match self {
            Architecture::Gpt2 => gpt2::checkpoint_tensors(config),
            _ => llama_family::checkpoint_tensors(config),
        }
    }

    /// Whether a tensor's name says that it lies in one of the decoder's modules: a block, an embedding, the last norm, the
    /// head.
    pub fn is_inside(self, name: &str) -> bool {
        let modules = match self {
            Architecture::Gpt2 => gpt2::MODULES,
            _ => llama_family::MODULES,
        };
        let bare =
            ["model.", "transformer."].iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name);
        bare.split_once('.').is_some_and(|(module, _)| modules.contains(&module))
    }

    /// Whether a tensor that no parameter needs is known and left out on purpose.
    pub fn ignores(self, name: &str, config: &DecoderConfig) -> bool {
        let buffer = match self {
            Architecture::Gpt2 => gpt2::is_ignored(name),
            _ => llama_family::is_ignored(name),
        };
        buffer || (config.head == Head::Tied && name == TIED_HEAD)
    }
}

/// The head's tensor in all families: a copy of the embedding where the two are tied.
pub(crate) const TIED_HEAD: &str = "lm_head.weight";
