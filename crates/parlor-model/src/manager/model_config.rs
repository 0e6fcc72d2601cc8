//! The `model:` section of the configuration.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::civil::Date;
use parlor_kernels::BlockFormat;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::arch;
use crate::config::{Device, InstructionSet, LoadOptions, MaxLength, TorchDtype};

/// Number format of 4-bit weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Bnb4bitQuantType {
    /// Levels spaced as a normal distribution, in blocks of 64 (QLoRA).
    #[default]
    Nf4,
    /// GGUF's `Q4_0`: evenly spaced levels in blocks of 32.
    Q4_0,
}

/// What to do when the weights do not fit in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OutOfMemoryPolicy {
    /// Stop with an error that says how much is needed and what would fit.
    #[default]
    Error,
    /// Load in bfloat16 instead of float32, and say so.
    SmallerDtype,
}

/// Which model, and how it is loaded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ModelConfig {
    /// The model: a directory in Hugging Face layout (config.json, model.safetensors, tokenizer.json), a .gguf file, or
    /// a hub name such as `org/name`. Hub names cannot be downloaded in this version: download the model and name
    /// its directory.
    pub name: String,
    /// The model's family, or `auto`. Only a check: the family that counts is the checkpoint's own, and another
    /// one here is a warning. `qwen` means every version of Qwen.
    pub model_type: String,
    /// Longest sequence, in tokens, prompt and answer together. An error when it is over the model's own
    /// limit. Lower it to save memory.
    #[schemars(range(min = 1, max = 16777216))]
    pub max_length: usize,
    /// Where the model runs: `auto`, `cpu`, `cuda` or `cuda:N`. This version runs on the CPU, which `auto` takes;
    /// `cuda` is an error.
    pub device: Device,
    /// Which instructions of the processor are used: `auto` takes the widest that it has. Less is for comparing, and for
    /// machines whose widest are slow (environment: PARLOR_ISA).
    pub instruction_set: InstructionSet,
    /// Number format of the weights in memory: `auto` keeps the checkpoint's; `float32`, `bfloat16` or `float16`
    /// converts. Weights that are trained are float32 (or see `training.pure_bf16`); those that an adapter leaves alone are
    /// in this format.
    pub torch_dtype: TorchDtype,
    /// Hold the weights of the blocks' linear layers in 8 bits (GGUF's `Q8_0`, blocks of 32); embeddings, head, norms and
    /// biases stay as they are. They cannot be trained, only adapters beside them (`training.training_type: lora`).
    pub load_in_8bit: bool,
    /// The same in 4 bits, in the format of `bnb_4bit_quant_type`: QLoRA.
    pub load_in_4bit: bool,
    /// Format of 4-bit weights: `nf4` as bitsandbytes has it, or `q4_0` as GGUF has it. (transformers' `fp4` is not in
    /// Parlor, and its default; here `nf4` is, which loses less.)
    pub bnb_4bit_quant_type: Bnb4bitQuantType,
    /// Hold NF4's scales in 8 bits too: 0.4 bits less per weight.
    pub bnb_4bit_use_double_quant: bool,
    /// Accepted for compatibility and without effect: Parlor never runs code from a model's repository. A model
    /// that needs it is an error either way.
    pub trust_remote_code: bool,
    /// Directory that is searched for `name` after the working directory (environment: CACHE_DIR). Empty: none.
    pub cache_dir: Option<PathBuf>,
    /// Branch, tag or commit on the hub. Not in this version: setting it is an error when the model is loaded.
    pub revision: Option<String>,
    /// Variables of the chat template, such as `enable_thinking: false`, wherever a conversation is rendered: training,
    /// evaluation, `render`, `generate`, `chat`, `data inspect`. `--template-kwargs` and a row's own count before them.
    pub chat_template_kwargs: BTreeMap<String, Value>,
    /// The date, such as `2026-01-31`, that chat templates read which tell the model what day it is, in training and
    /// evaluation. Null: the day on which the run began; a run that is resumed, and `eval` of its model, take the run's.
    pub chat_template_date: Option<String>,
    /// What to do when the weights do not fit in memory: `error`, or `smaller_dtype` (bfloat16 instead of
    /// float32).
    pub on_out_of_memory: OutOfMemoryPolicy,
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self {
            name: arch::DEFAULT_MODEL_NAME.to_owned(),
            model_type: arch::DEFAULT_MODEL_TYPE.to_owned(),
            max_length: 2048,
            device: Device::Auto,
            instruction_set: InstructionSet::default(),
            torch_dtype: TorchDtype::Auto,
            load_in_8bit: false,
            load_in_4bit: false,
            bnb_4bit_quant_type: Bnb4bitQuantType::default(),
            bnb_4bit_use_double_quant: false,
            trust_remote_code: true,
            cache_dir: None,
            revision: None,
            chat_template_kwargs: BTreeMap::new(),
            chat_template_date: None,
            on_out_of_memory: OutOfMemoryPolicy::Error,
        }
    }
}

impl ModelConfig {
    /// The quantized format of the blocks' linear layers, if they are quantized.
    pub fn quantization(&self) -> Option<BlockFormat> {
        match (self.load_in_4bit, self.bnb_4bit_quant_type, self.bnb_4bit_use_double_quant) {
            (false, ..) => self.load_in_8bit.then_some(BlockFormat::Q8_0),
            (true, Bnb4bitQuantType::Q4_0, _) => Some(BlockFormat::Q4_0),
            (true, Bnb4bitQuantType::Nf4, false) => Some(BlockFormat::Nf4),
            (true, Bnb4bitQuantType::Nf4, true) => Some(BlockFormat::Nf4Double),
        }
    }

    /// The load options of this section, with mapped weights.
    pub fn load_options(&self, max_length: MaxLength) -> LoadOptions {
        LoadOptions {
            dtype: self.torch_dtype,
            quantization: self.quantization(),
            max_length,
            ..LoadOptions::default()
        }
    }

    /// `chat_template_kwargs` as the argument of a template.
    pub fn template_kwargs(&self) -> Map<String, Value> {
        self.chat_template_kwargs.clone().into_iter().collect()
    }

    /// Keys that contradict each other, each with a message that says what is wrong and what to do.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        if self.load_in_8bit && self.load_in_4bit {
            found.push(("model.load_in_4bit", "`load_in_8bit` is set too; choose one of them".to_owned()));
        }
        let nested = self.load_in_4bit && self.bnb_4bit_quant_type == Bnb4bitQuantType::Nf4;
        if self.bnb_4bit_use_double_quant && !nested {
            let message = "it is for `load_in_4bit: true` with `bnb_4bit_quant_type: nf4`; set those, or leave it false";
            found.push(("model.bnb_4bit_use_double_quant", message.to_owned()));
        }
        if let Some(date) = self.chat_template_date.as_deref().filter(|date| date.parse::<Date>().is_err()) {
            let message = format!("it is `{date}`; a date was expected, such as 2026-01-31");
            found.push(("model.chat_template_date", message));
        }
        if let Some(problem) = reserved_template_variable(self.chat_template_kwargs.keys()) {
            found.push(("model.chat_template_kwargs", problem));
        }
        found
    }
}

/// The problem of a template variable that cannot be set this way, if one of `names` is such.
pub fn reserved_template_variable<'a>(mut names: impl Iterator<Item = &'a String>) -> Option<String> {
    let reserved = [
        ("messages", "the conversation is given as messages"),
        ("tools", "tools stand with the conversation, or in their own file"),
        ("add_generation_prompt", "the verb decides it"),
    ];
    let (name, how) = names.find_map(|name| reserved.iter().find(|(reserved, _)| reserved == name))?;
    Some(format!("`{name}` cannot be a variable of its own: {how}; leave it out"))
}
