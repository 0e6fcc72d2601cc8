//! A tokenizer from a list of tokens, as weight files that hold their own vocabulary give it: no `tokenizer.json` is written
//! or parsed on the way.
//!
//! Two kinds: byte-level BPE with merges (`tokenizers`' `ByteLevel`), and SentencePiece's BPE with scores, whose merges are
//! all pairs of pieces that make a piece, the likeliest first (`SentencePieceExtractor` in transformers). What is built
//! is what the same vocabulary's `tokenizer.json` would make. Leaves out: Unigram, WordPiece.

use rayon::prelude::*;
use serde_json::Map;
use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::sequence::Sequence as DecoderSequence;
use tokenizers::decoders::strip::Strip;
use tokenizers::models::bpe::{BPE, BpeBuilder, Vocab};
use tokenizers::normalizers::{NFC, Prepend, Replace, Sequence as NormalizerSequence};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, SplitDelimiterBehavior};

use crate::tokenizer::{Tokenizer, TokenizerError};

/// Longest piece in bytes: all its cuts are looked at, which takes the square of its length. Runs of spaces are the longest.
const LONGEST_PIECE: usize = 1024;
/// SentencePiece's sign for a space.
const SPACE: &str = "▁";

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// A part of text.
    Normal,
    /// The one for what no token spells.
    Unknown,
    /// Never a part of text, and left out of answers: `<|im_end|>`.
    Control,
    /// Found in text before it is split: `<tool_call>`.
    UserDefined,
    /// A single byte, spelled `<0x0A>`.
    Byte,
}

/// How text is split into tokens.
#[derive(Clone, Debug)]
pub enum Spelling {
    /// Byte-level BPE.
    Bytes {
        /// Regular expressions that cut text into words, each applied to what the ones before left.
        words: &'static [&'static str],
        /// Whether text is brought into Unicode's form NFC first.
        nfc: bool,
        /// Whether a word that is a token is that token, whatever the merges.
        whole_words: bool,
        /// Pairs of tokens to join, the first ones first.
        merges: Vec<(String, String)>,
    },
    /// SentencePiece's BPE.
    Pieces {
        /// Of each token; pairs that make a token of a higher score are joined first.
        scores: Vec<f32>,
        /// Whether text begins with a space of its own, also after a special token.
        space_prefix: bool,
    },
}

/// A vocabulary. Ids are places in `tokens`.
#[derive(Clone, Debug)]
pub struct Vocabulary {
    /// The tokens, as the vocabulary spells them.
    pub tokens: Vec<String>,
    /// What each is for; as many as there are tokens.
    pub kinds: Vec<TokenKind>,
    /// How text is split.
    pub spelling: Spelling,
    /// Special tokens by their HF name: `bos_token`, `eos_token`, `unk_token`, `pad_token`.
    pub special: Vec<(&'static str, u32)>,
    /// Whether a text begins with `bos_token`.
    pub add_bos: bool,
    /// Whether a text ends with `eos_token`.
    pub add_eos: bool,
}

fn failed(error: impl std::fmt::Display) -> TokenizerError {
    TokenizerError::Use(error.to_string())
}

impl Tokenizer {
    /// The tokenizer of a vocabulary.
    ///
    /// # Errors
    /// [`TokenizerError::Use`] when its parts contradict each other: a merge of or into no token, say.
    pub fn from_vocabulary(vocabulary: Vocabulary) -> Result<Self, TokenizerError> {
        let Vocabulary { tokens, kinds, spelling, special, add_bos, add_eos } = vocabulary;
        if tokens.len() != kinds.len() {
            return Err(failed(format!("{} tokens have {} kinds", tokens.len(), kinds.len())));
        }
        let size = tokens.len();
        let text = |id: u32| tokens.get(id as usize).cloned();
        let named = |name: &str| {
            let id = special.iter().find(|(known, _)| *known == name).map(|(_, id)| *id)?;
            Some((id, text(id)?))
        };
        let (begin, end) = (named("bos_token").filter(|_| add_bos), named("eos_token").filter(|_| add_eos));
        let mut config = Map::new();
        config.insert("tokenizer_class".to_owned(), "PreTrainedTokenizerFast".into());
        config.insert("clean_up_tokenization_spaces".to_owned(), false.into());
        for (name, id) in &special {
            if let Some(text) = text(*id) {
                config.insert((*name).to_owned(), text.into());
            }
        }
        let added = tokens.iter().zip(&kinds).filter_map(|(token, kind)| match kind {
            TokenKind::Control | TokenKind::Unknown => Some(AddedToken::from(token.clone(), true)),
            TokenKind::UserDefined => Some(AddedToken::from(token.clone(), false).normalized(false)),
            TokenKind::Normal | TokenKind::Byte => None,
        });
        let added: Vec<AddedToken> = added.collect();
        let mut inner = match spelling {
            Spelling::Bytes { words, nfc, whole_words, merges } => {
                let model = bytes_model(tokens, merges, whole_words)?;
                bytes_steps(tokenizers::Tokenizer::new(model), words, nfc)?
            }
            Spelling::Pieces { scores, space_prefix } => {
                let model = pieces_model(&tokens, &kinds, &scores)?;
                pieces_steps(tokenizers::Tokenizer::new(model), space_prefix)?
            }
        };
        if begin.is_some() || end.is_some() {
            inner.with_post_processor(Some(framing(begin, end)?));
        }
        inner.add_tokens(added).map_err(failed)?;
        Ok(Self::from_sized(inner, config, size))
    }
}

/// Token to id. Where a spelling is there twice, text becomes the first.
fn ids(tokens: Vec<String>) -> Vocab {
    let mut ids = Vocab::with_capacity(tokens.len());
    for (id, token) in tokens.into_iter().enumerate() {
        ids.entry(token).or_insert(id as u32);
    }
    ids
}

/// The crate joins a pair in a buffer as long as the longest token: a longer pair is no token, and must not get there.
fn check_merges(tokens: &[String], merges: &[(String, String)]) -> Result<(), TokenizerError> {
    let longest = tokens.iter().map(String::len).max().unwrap_or(0);
    match merges.iter().find(|(left, right)| left.len() + right.len() > longest) {
        Some((left, right)) => Err(failed(format!("the merge of `{left}` and `{right}` makes no token"))),
        None => Ok(()),
    }
}

fn bytes_model(
    tokens: Vec<String>,
    merges: Vec<(String, String)>,
    whole_words: bool,
) -> Result<BPE, TokenizerError> {
    check_merges(&tokens, &merges)?;
    let builder = BpeBuilder::new().vocab_and_merges(ids(tokens), merges).ignore_merges(whole_words);
    builder.build().map_err(failed)
}

fn bytes_steps(
    mut inner: tokenizers::Tokenizer,
    words: &[&str],
    nfc: bool,
) -> Result<tokenizers::Tokenizer, TokenizerError> {
    let mut steps: Vec<PreTokenizerWrapper> = Vec::with_capacity(words.len() + 1);
    for words in words {
        let pattern = SplitPattern::Regex((*words).to_owned());
        steps.push(Split::new(pattern, SplitDelimiterBehavior::Isolated, false).map_err(failed)?.into());
    }
    steps.push(ByteLevel::new(false, true, false).into());
    inner.with_pre_tokenizer(Some(Sequence::new(steps)));
    inner.with_decoder(Some(ByteLevel::default()));
    if nfc {
        inner.with_normalizer(Some(NFC)).map_err(failed)?;
    }
    Ok(inner)
}

fn pieces_model(tokens: &[String], kinds: &[TokenKind], scores: &[f32]) -> Result<BPE, TokenizerError> {
    if tokens.len() != scores.len() {
        return Err(failed(format!("{} tokens have {} scores", tokens.len(), scores.len())));
    }
    let long = tokens
        .iter()
        .zip(kinds)
        .find(|(token, kind)| **kind == TokenKind::Normal && token.len() > LONGEST_PIECE);
    if let Some((token, _)) = long {
        return Err(failed(format!("a piece has {} bytes; at most {LONGEST_PIECE} are read", token.len())));
    }
    let ids = ids(tokens.to_vec());
    // Every way to make a token out of two; only pieces of text are made.
    let mut pairs: Vec<(f32, u32, u32, &str, &str)> = tokens
        .par_iter()
        .zip(kinds)
        .zip(scores)
        .filter(|((_, kind), _)| **kind == TokenKind::Normal)
        .flat_map_iter(|((token, _), &score)| {
            let cuts = token.char_indices().skip(1);
            cuts.filter_map(|(at, _)| {
                let (left, right) = token.split_at(at);
                Some((score, *ids.get(left)?, *ids.get(right)?, left, right))
            })
            .collect::<Vec<_>>()
        })
        .collect();
    // The likeliest first; of one token's, those of earlier parts.
    pairs.par_sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    let merges =
        pairs.iter().map(|(_, _, _, left, right)| ((*left).to_owned(), (*right).to_owned())).collect();
    let unknown = tokens.iter().zip(kinds).find(|(_, kind)| **kind == TokenKind::Unknown);
    let mut builder = BpeBuilder::new().vocab_and_merges(ids, merges).fuse_unk(true).byte_fallback(true);
    if let Some((token, _)) = unknown {
        builder = builder.unk_token(token.clone());
    }
    builder.build().map_err(failed)
}

fn pieces_steps(
    mut inner: tokenizers::Tokenizer,
    space_prefix: bool,
) -> Result<tokenizers::Tokenizer, TokenizerError> {
    let spaces = Replace::new(" ", SPACE).map_err(failed)?;
    let mut steps = vec![spaces.into()];
    if space_prefix {
        steps.insert(0, Prepend::new(SPACE.to_owned()).into());
    }
    inner.with_normalizer(Some(NormalizerSequence::new(steps))).map_err(failed)?;
    let mut steps = vec![
        Replace::new(SPACE, " ").map_err(failed)?.into(),
        ByteFallback::default().into(),
        Fuse::default().into(),
    ];
    if space_prefix {
        steps.push(Strip::new(' ', 1, 0).into());
    }
    inner.with_decoder(Some(DecoderSequence::new(steps)));
    Ok(inner)
}

/// `bos $A eos`, as far as they are.
fn framing(
    begin: Option<(u32, String)>,
    end: Option<(u32, String)>,
) -> Result<TemplateProcessing, TokenizerError> {
    let mut pieces = vec!["$A".to_owned()];
    if let Some((_, begin)) = &begin {
        pieces.insert(0, begin.clone());
    }
    if let Some((_, end)) = &end {
        pieces.push(end.clone());
    }
    let tokens: Vec<(String, u32)> = begin.into_iter().chain(end).map(|(id, text)| (text, id)).collect();
    TemplateProcessing::builder()
        .try_single(pieces)
        .map_err(failed)?
        .special_tokens(tokens)
        .build()
        .map_err(failed)
}
