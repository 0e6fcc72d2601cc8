//! How a byte-level vocabulary cuts text into words, by the name in `tokenizer.ggml.pre`.
//!
//! Expressions are those of the models' own tokenizer.json; for `default`, which no model has, those of
//! llama.cpp's `llama-vocab.cpp`. Leaves out: names of models that are of no supported family.

use parlor_text::ONE_DIGIT_WORDS;

/// GPT-2's words.
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
/// Qwen2's words, with one digit each.
const QWEN2: &str = ONE_DIGIT_WORDS;
/// Llama 3's words, with up to three digits each.
const LLAMA3: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|",
    r"\s*[\r\n]+|\s+(?!\S)|\s+"
);
/// Tekken's words, which end before a capital that follows a small letter.
const TEKKEN: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}|",
    r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);

/// A pre-tokenizer.
pub(super) struct PreTokenizer {
    pub(super) name: &'static str,
    /// Applied one after the other.
    pub(super) words: &'static [&'static str],
    /// Whether the tokenizer normalises text to NFC.
    pub(super) nfc: bool,
    /// Whether a word that is a token becomes that token, whatever the merges.
    pub(super) whole_words: bool,
    /// Whether texts start with the BOS token, in files that do not say.
    pub(super) add_bos: bool,
}

const fn plain(name: &'static str, words: &'static [&'static str]) -> PreTokenizer {
    PreTokenizer { name, words, nfc: false, whole_words: false, add_bos: false }
}

const fn llama3(name: &'static str) -> PreTokenizer {
    PreTokenizer { whole_words: true, add_bos: true, ..plain(name, &[LLAMA3]) }
}

/// All known pre-tokenizers.
pub(super) const ALL: &[PreTokenizer] = &[
    plain(
        "default",
        &[
            r"[\p{P}\$\+<=>\^~\|]+",
            r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)",
            r"\p{N}+",
            "[0-9][0-9][0-9]",
        ],
    ),
    plain("gpt-2", &[GPT2]),
    PreTokenizer { nfc: true, ..plain("qwen2", &[QWEN2]) },
    plain("deepseek-r1-qwen", &[QWEN2]),
    llama3("llama-bpe"),
    llama3("llama3"),
    llama3("llama-v3"),
    plain("smaug-bpe", &[LLAMA3]),
    PreTokenizer { whole_words: true, add_bos: true, ..plain("tekken", &[TEKKEN]) },
    plain("smollm", &[r"\p{N}", GPT2]),
    plain("deepseek-coder", &[r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+", r"\p{N}"]),
];
