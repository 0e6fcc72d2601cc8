//! A vocabulary as a weight file holds it (GGUF, say): a list of tokens with their kinds, and the data of its
//! BPE.
//!
//! Leaves out: Unigram, WordPiece.

use tokenizers::models::bpe::Vocab;

use super::texts::Texts;

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// A part of text.
    Normal,
    /// The token of what no other token spells.
    Unknown,
    /// Never a part of text, and left out of completions: `<|im_end|>`.
    Control,
    /// Matched in text before it is split: `<tool_call>`.
    UserDefined,
    /// A single byte, spelled `<0x0A>`.
    Byte,
}

/// The kind of BPE, with its data.
#[derive(Clone, Debug)]
pub enum BpeKind {
    /// Byte-level BPE.
    ByteLevel {
        /// Regular expressions of the pre-tokenizer, each applied to what the ones before left.
        words: &'static [&'static str],
        /// Whether text is normalized to NFC.
        nfc: bool,
        /// Whether a word that is a token is not split, whatever the merges (`ignore_merges`).
        whole_words: bool,
        /// Merges, `left right`, in the order of their rank.
        merges: Texts,
    },
    /// SentencePiece's BPE.
    SentencePiece {
        /// Score of each token; pairs that make a token of a higher score are merged first.
        scores: Vec<f32>,
        /// Whether text begins with a space of its own, also after a special token.
        space_prefix: bool,
    },
}

/// A vocabulary. The id of a token is its index in `tokens`.
#[derive(Clone, Debug)]
pub struct Vocabulary {
    /// The tokens, as the vocabulary spells them.
    pub tokens: Texts,
    /// Kind of each token.
    pub kinds: Vec<TokenKind>,
    /// How text is split into tokens.
    pub bpe: BpeKind,
    /// Ids of special tokens by their HF name: `bos_token`, `eos_token`, `unk_token`, `pad_token`.
    pub special: Vec<(&'static str, u32)>,
    /// Whether a text begins with `bos_token`.
    pub add_bos: bool,
    /// Whether a text ends with `eos_token`.
    pub add_eos: bool,
}

/// Token to id. Of equal tokens the first is used.
pub(super) fn token_ids(tokens: &Texts) -> Vocab {
    let mut ids = Vocab::with_capacity(tokens.len());
    for (id, token) in tokens.iter().enumerate() {
        ids.entry(token.to_owned()).or_insert(id as u32);
    }
    ids
}
