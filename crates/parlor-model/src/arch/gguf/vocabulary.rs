//! The vocabulary in a GGUF file's metadata, `tokenizer.ggml.*`.
//!
//! Source: `llama-vocab.cpp` in llama.cpp, for what absent keys mean. Leaves out: WordPiece, Unigram and RWKV
//! vocabularies, which no supported family has; chat templates other than the default one.

use parlor_text::{BpeKind, Texts, TokenKind, Vocabulary, merge_halves};
use serde_json::Map;

use super::pre_tokenizers::{self, PreTokenizer};
use super::sampling::sampling;
use crate::config::GenerationConfig;
use crate::error::{LoadErrorKind, ModelLoadError};
use crate::files::Metadata;

const MODEL: &str = "tokenizer.ggml.model";
const PRE: &str = "tokenizer.ggml.pre";
const TOKENS: &str = "tokenizer.ggml.tokens";
const KINDS: &str = "tokenizer.ggml.token_type";
const MERGES: &str = "tokenizer.ggml.merges";
const SCORES: &str = "tokenizer.ggml.scores";
/// The type of an embedding row without a token.
const UNUSED: f32 = 5.0;

/// HF's names of special tokens and the keys of their ids.
const SPECIAL: [(&str, &str); 4] = [
    ("bos_token", "tokenizer.ggml.bos_token_id"),
    ("eos_token", "tokenizer.ggml.eos_token_id"),
    ("unk_token", "tokenizer.ggml.unknown_token_id"),
    ("pad_token", "tokenizer.ggml.padding_token_id"),
];
/// Keys of tokens that end a completion.
const ENDS: [&str; 3] =
    ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"];

/// The vocabulary, when the file has one.
///
/// # Errors
/// `Corrupt` for keys that contradict each other, `Incompatible` for a kind of vocabulary that is not read.
pub(crate) fn vocabulary(
    metadata: &Metadata,
    warnings: &mut Vec<String>,
) -> Result<Option<Vocabulary>, ModelLoadError> {
    let Some(model) = metadata.text(MODEL)?.filter(|model| *model != "none") else { return Ok(None) };
    let mut tokens = metadata.texts(TOKENS)?.ok_or_else(|| metadata.missing(TOKENS))?;
    let kinds = metadata.numbers(KINDS)?.unwrap_or_else(|| vec![1.0; tokens.len()]);
    let as_many = |key: &str, found: usize, expected: usize| match found == expected {
        true => Ok(()),
        false => Err(metadata.wrong(key, &format!("a list of {expected}, as many as there are tokens"))),
    };
    let count = tokens.len();
    as_many(KINDS, kinds.len(), count)?;
    // An embedding may have more rows than the vocabulary has tokens.
    let used = kinds.iter().rposition(|kind| *kind != UNUSED).map_or(0, |last| last + 1);
    let (bpe, add_bos) = match model {
        "gpt2" => {
            let pre = pre_tokenizer(metadata, warnings)?;
            let merges = metadata.texts(MERGES)?.ok_or_else(|| metadata.missing(MERGES))?;
            let (words, nfc, whole_words) = (pre.words, pre.nfc, pre.whole_words);
            (BpeKind::ByteLevel { words, nfc, whole_words, merges: pairs(metadata, merges)? }, pre.add_bos)
        }
        "llama" => {
            let mut scores = metadata.numbers(SCORES)?.ok_or_else(|| metadata.missing(SCORES))?;
            as_many(SCORES, scores.len(), count)?;
            scores.truncate(used);
            let space_prefix = metadata.flag("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
            (BpeKind::SentencePiece { scores, space_prefix }, true)
        }
        other => {
            return Err(metadata.problem(
                LoadErrorKind::Incompatible,
                MODEL,
                format!("vocabularies of the kind `{other}` are not read"),
                "use a model with a `gpt2` (byte-level BPE) or a `llama` (SentencePiece BPE) vocabulary",
            ));
        }
    };
    tokens.truncate(used);
    let kinds = kinds.into_iter().take(used).map(kind).collect();
    let mut special = Vec::new();
    for (name, key) in SPECIAL {
        if let Some(id) = token_id(metadata, key, used)? {
            special.push((name, id));
        }
    }
    Ok(Some(Vocabulary {
        tokens: tokens.into_iter().collect(),
        kinds,
        bpe,
        special,
        add_bos: metadata.flag("tokenizer.ggml.add_bos_token")?.unwrap_or(add_bos),
        add_eos: metadata.flag("tokenizer.ggml.add_eos_token")?.unwrap_or(false),
    }))
}

/// The special tokens and the sampling settings.
pub(crate) fn generation(metadata: &Metadata, rows: usize) -> Result<GenerationConfig, ModelLoadError> {
    let (settings, warnings) = sampling(metadata)?;
    let none = Map::new();
    let read = GenerationConfig::read(Some((&settings, metadata.path())), (&none, metadata.path()))?;
    let mut generation = GenerationConfig {
        warnings,
        bos_token_id: token_id(metadata, "tokenizer.ggml.bos_token_id", rows)?,
        pad_token_id: token_id(metadata, "tokenizer.ggml.padding_token_id", rows)?,
        ..read
    };
    for key in ENDS {
        if let Some(id) = token_id(metadata, key, rows)?
            && !generation.eos_token_ids.contains(&id)
        {
            generation.eos_token_ids.push(id);
        }
    }
    Ok(generation)
}

/// A token id below `count`. Some converters write `u32::MAX` for "none".
fn token_id(metadata: &Metadata, key: &str, count: usize) -> Result<Option<u32>, ModelLoadError> {
    match metadata.integer(key)?.filter(|id| *id != u64::from(u32::MAX)) {
        None => Ok(None),
        Some(id) if id < count as u64 => Ok(Some(id as u32)),
        Some(_) => Err(metadata.wrong(key, &format!("the id of one of {count} tokens"))),
    }
}

fn kind(number: f32) -> TokenKind {
    match number as i32 {
        2 => TokenKind::Unknown,
        3 => TokenKind::Control,
        4 => TokenKind::UserDefined,
        6 => TokenKind::Byte,
        _ => TokenKind::Normal,
    }
}

fn pre_tokenizer(
    metadata: &Metadata,
    warnings: &mut Vec<String>,
) -> Result<&'static PreTokenizer, ModelLoadError> {
    let name = match metadata.text(PRE)? {
        Some(name) => name,
        None => {
            warnings.push(format!(
                "`{PRE}` is missing: text is cut into words as `default` says, which may not be how the model was trained"
            ));
            "default"
        }
    };
    pre_tokenizers::ALL.iter().find(|known| known.name == name).ok_or_else(|| {
        let known: Vec<String> =
            pre_tokenizers::ALL.iter().map(|known| format!("`{}`", known.name)).collect();
        metadata.problem(
            LoadErrorKind::Incompatible,
            PRE,
            format!("how `{name}` cuts text into words is not known"),
            format!("known are {}; use a model with one of them", known.join(", ")),
        )
    })
}

/// The merges, each `left right`.
fn pairs(metadata: &Metadata, merges: Vec<&str>) -> Result<Texts, ModelLoadError> {
    match merges.iter().all(|merge| merge_halves(merge).is_some()) {
        true => Ok(merges.into_iter().collect()),
        false => Err(metadata.wrong(MERGES, "pairs of tokens with a space between")),
    }
}
