//! Tokenizer classes of `transformers` (5.23), for what a model's files leave to them: special tokens that no
//! file names, and the pre-tokenizer of `vocab.json` and `merges.txt`.
//!
//! Sources: `models/gpt2/tokenization_gpt2.py`, `models/qwen2/tokenization_qwen2.py`,
//! `models/llama/tokenization_llama.py`, and the types of models in `models/auto/tokenization_auto.py`.

use serde_json::{Map, Value};

/// The expression that cuts a text into words for byte-level BPE, each digit a word of its own.
pub const ONE_DIGIT_WORDS: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|",
    r"\s*[\r\n]+|\s+(?!\S)|\s+"
);

/// A class of tokenizers in `transformers`.
pub(super) struct Class {
    name: &'static str,
    /// Types of models whose tokenizer is of this class when no file says so.
    model_types: &'static [&'static str],
    /// Special tokens of its own.
    pub(super) special: &'static [(&'static str, &'static str)],
    /// How `vocab.json` and `merges.txt` cut a text into words; none when the class has no such files.
    pub(super) words: Option<Words>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Words {
    /// As GPT-2.
    ByteLevel,
    /// By an expression of their own, after Unicode's form NFC.
    Split(&'static str),
}

const ENDOFTEXT: &str = "<|endoftext|>";
const CLASSES: [Class; 3] = [
    Class {
        name: "GPT2Tokenizer",
        model_types: &["gpt2"],
        special: &[("bos_token", ENDOFTEXT), ("eos_token", ENDOFTEXT), ("unk_token", ENDOFTEXT)],
        words: Some(Words::ByteLevel),
    },
    Class {
        name: "Qwen2Tokenizer",
        model_types: &["qwen2", "qwen3"],
        special: &[("eos_token", ENDOFTEXT), ("pad_token", ENDOFTEXT), ("unk_token", ENDOFTEXT)],
        words: Some(Words::Split(ONE_DIGIT_WORDS)),
    },
    Class {
        name: "LlamaTokenizer",
        model_types: &[],
        special: &[("bos_token", "<s>"), ("eos_token", "</s>"), ("unk_token", "<unk>")],
        words: None,
    },
];

/// The class that `tokenizer_config.json` names, else that of the model's type.
pub(super) fn class(config: &Map<String, Value>, model: &Map<String, Value>) -> Option<&'static Class> {
    if let Some(name) = config.get("tokenizer_class").and_then(Value::as_str) {
        let name = name.strip_suffix("Fast").unwrap_or(name);
        return CLASSES.iter().find(|class| class.name == name);
    }
    let model_type = model.get("model_type")?.as_str()?;
    CLASSES.iter().find(|class| class.model_types.contains(&model_type))
}
