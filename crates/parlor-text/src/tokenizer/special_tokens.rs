//! Special tokens as `tokenizer_config.json` names and writes them.

use serde_json::Value;

/// Whether the tokens that frame a text (BOS, EOS) are added when it is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpecialTokens {
    /// As the tokenizer's post-processor says; when decoding, special tokens stay in the text.
    Include,
    /// None; when decoding, special tokens are left out of the text.
    Omit,
}

/// A special token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecialToken {
    /// Its id.
    pub id: u32,
    /// Its text.
    pub text: String,
}

/// Names of special tokens in `tokenizer_config.json`.
pub(super) const SPECIAL: [&str; 7] =
    ["bos_token", "eos_token", "pad_token", "unk_token", "sep_token", "cls_token", "mask_token"];

/// A special token's text: a string, or an object with `content`.
pub(super) fn token_text(value: &Value) -> Option<String> {
    value.as_str().or_else(|| value.get("content")?.as_str()).map(str::to_owned)
}
