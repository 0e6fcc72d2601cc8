//! A tokenizer from a list of tokens, as weight files that hold their own vocabulary give it: no `tokenizer.json` is written
//! or parsed on the way.
//!
//! Two kinds: byte-level BPE with merges (`tokenizers`' `ByteLevel`), and SentencePiece's BPE with scores, whose merges are
//! all pairs of pieces that make a piece, the likeliest first (`SentencePieceExtractor` in transformers). What is built
//! is what the same vocabulary's `tokenizer.json` would make. A large one of the first kind is built when much text comes; until
//! then words are split one by one (`word_by_word.rs`). Leaves out: Unigram, WordPiece.

use rayon::prelude::*;
use serde_json::Map;
use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::sequence::Sequence as DecoderSequence;
use tokenizers::decoders::strip::Strip;
use tokenizers::models::bpe::{BPE, BpeBuilder, Merges, Vocab};
use tokenizers::normalizers::{NFC, Prepend, Replace, Sequence as NormalizerSequence};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, Model, SplitDelimiterBehavior, TokenizerImpl};

use crate::pipeline::{Pipeline, built};
use crate::texts::Texts;
use crate::tokenizer::{Tokenizer, TokenizerError};
use crate::word_by_word::WordByWord;

/// Longest piece in bytes: all its cuts are looked at, which takes the square of its length. Runs of spaces are the longest.
const LONGEST_PIECE: usize = 1024;
/// Tokens of a vocabulary that is built at once: it takes a millisecond.
pub(crate) const BUILT_AT_ONCE: usize = 1 << 12;
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
        /// Pairs of tokens to join, `left right`, the first ones first.
        merges: Texts,
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
    pub tokens: Texts,
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

/// What the crate says.
pub(crate) fn failed(error: impl std::fmt::Display) -> TokenizerError {
    TokenizerError::Use(error.to_string())
}

impl Tokenizer {
    /// The tokenizer of a vocabulary.
    ///
    /// # Errors
    /// [`TokenizerError::Use`] when its parts contradict each other: a merge of or into no token, say, unless it is
    /// so large that it is built later; then such a merge is never made.
    pub fn from_vocabulary(vocabulary: Vocabulary) -> Result<Self, TokenizerError> {
        let Vocabulary { tokens, kinds, spelling, special, add_bos, add_eos } = vocabulary;
        if tokens.len() != kinds.len() {
            return Err(failed(format!("{} tokens have {} kinds", tokens.len(), kinds.len())));
        }
        let size = tokens.len();
        let text = |id: u32| tokens.get(id as usize).map(str::to_owned);
        let named = |name: &str| {
            let id = special.iter().find(|(known, _)| *known == name).map(|(_, id)| *id)?;
            Some((id, text(id)?))
        };
        let mut config = Map::new();
        config.insert("tokenizer_class".to_owned(), "PreTrainedTokenizerFast".into());
        config.insert("clean_up_tokenization_spaces".to_owned(), false.into());
        for (name, id) in &special {
            if let Some(text) = text(*id) {
                config.insert((*name).to_owned(), text.into());
            }
        }
        let added = tokens.iter().zip(&kinds).filter_map(|(token, kind)| match kind {
            TokenKind::Control | TokenKind::Unknown => Some(AddedToken::from(token, true)),
            TokenKind::UserDefined => Some(AddedToken::from(token, false).normalized(false)),
            TokenKind::Normal | TokenKind::Byte => None,
        });
        let around = Around {
            begin: named("bos_token").filter(|_| add_bos),
            end: named("eos_token").filter(|_| add_eos),
            added: added.collect(),
        };
        match spelling {
            Spelling::Bytes { words, nfc, whole_words, merges } => {
                let steps = BytesSteps { words, nfc, around };
                if size <= BUILT_AT_ONCE {
                    let whole = steps.around(bytes_model(&tokens, &merges, whole_words)?)?;
                    return Ok(Self::from_sized(whole.into(), config, size));
                }
                let quick = steps.around(WordByWord::new(tokens, merges, whole_words))?;
                Ok(Self::from_large(Large { quick, source: Source::Bytes(steps) }, config, size))
            }
            Spelling::Pieces { scores, space_prefix } => {
                let model = pieces_model(&tokens, &kinds, &scores)?;
                let mut whole = TokenizerImpl::new(model);
                pieces_steps(&mut whole, space_prefix)?;
                around.put(&mut whole)?;
                Ok(Self::from_sized(whole.into(), config, size))
            }
        }
    }
}

/// A vocabulary that is not built yet.
#[derive(Debug)]
pub(crate) struct Large {
    pub(crate) quick: Pipeline<WordByWord>,
    pub(crate) source: Source,
}

/// What it is built of.
#[derive(Debug)]
pub(crate) enum Source {
    /// The tokens and merges that split word by word.
    Bytes(BytesSteps),
    /// A `tokenizer.json`.
    Json(Vec<u8>),
}

impl Large {
    /// The tokenizer that it is.
    pub(crate) fn whole(&self) -> Result<tokenizers::Tokenizer, TokenizerError> {
        match &self.source {
            Source::Bytes(steps) => {
                let (tokens, merges, whole_words) = self.quick.get_model().parts();
                Ok(steps.around(bytes_model(tokens, merges, whole_words)?)?.into())
            }
            Source::Json(json) => built(json),
        }
    }
}

/// What every kind of vocabulary has around its model.
#[derive(Debug)]
struct Around {
    begin: Option<(u32, String)>,
    end: Option<(u32, String)>,
    added: Vec<AddedToken>,
}

impl Around {
    fn put<M: Model>(&self, pipeline: &mut Pipeline<M>) -> Result<(), TokenizerError> {
        if self.begin.is_some() || self.end.is_some() {
            pipeline.with_post_processor(Some(framing(self.begin.clone(), self.end.clone())?));
        }
        pipeline.add_tokens(self.added.clone()).map_err(failed)?;
        Ok(())
    }
}

/// The same of byte-level BPE.
#[derive(Debug)]
pub(crate) struct BytesSteps {
    words: &'static [&'static str],
    nfc: bool,
    around: Around,
}

impl BytesSteps {
    fn around<M: Model>(&self, model: M) -> Result<Pipeline<M>, TokenizerError> {
        let mut pipeline = Pipeline::new(model);
        let mut steps: Vec<PreTokenizerWrapper> = Vec::with_capacity(self.words.len() + 1);
        for words in self.words {
            let pattern = SplitPattern::Regex((*words).to_owned());
            let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false);
            steps.push(split.map_err(failed)?.into());
        }
        steps.push(ByteLevel::new(false, true, false).into());
        pipeline.with_pre_tokenizer(Some(Sequence::new(steps)));
        pipeline.with_decoder(Some(ByteLevel::default()));
        if self.nfc {
            pipeline.with_normalizer(Some(NFC)).map_err(failed)?;
        }
        self.around.put(&mut pipeline)?;
        Ok(pipeline)
    }
}

/// Token to id. Where a spelling is there twice, text becomes the first.
fn ids(tokens: &Texts) -> Vocab {
    let mut ids = Vocab::with_capacity(tokens.len());
    for (id, token) in tokens.iter().enumerate() {
        ids.entry(token.to_owned()).or_insert(id as u32);
    }
    ids
}

/// The two tokens of a merge. A token may be a space only at its beginning.
pub fn merge_halves(merge: &str) -> Option<(&str, &str)> {
    let (at, _) = merge.char_indices().skip(1).find(|(_, c)| *c == ' ')?;
    Some((&merge[..at], &merge[at + 1..]))
}

fn bytes_model(tokens: &Texts, merges: &Texts, whole_words: bool) -> Result<BPE, TokenizerError> {
    let mut pairs = Merges::with_capacity(merges.len());
    // The crate joins a pair in a buffer as long as the longest token: a longer pair is no token, and must not get there.
    let longest = tokens.longest();
    for merge in merges.iter() {
        let (left, right) =
            merge_halves(merge).ok_or_else(|| failed(format!("the merge `{merge}` is no pair")))?;
        if left.len() + right.len() > longest {
            return Err(failed(format!("the merge of `{left}` and `{right}` makes no token")));
        }
        pairs.push((left.to_owned(), right.to_owned()));
    }
    let builder = BpeBuilder::new().vocab_and_merges(ids(tokens), pairs).ignore_merges(whole_words);
    builder.build().map_err(failed)
}

fn pieces_model(tokens: &Texts, kinds: &[TokenKind], scores: &[f32]) -> Result<BPE, TokenizerError> {
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
    let ids = ids(tokens);
    // Every way to make a token out of two; only pieces of text are made.
    let mut pairs: Vec<(f32, u32, u32, &str, &str)> = (0..tokens.len().min(kinds.len()))
        .into_par_iter()
        .filter(|&id| kinds[id] == TokenKind::Normal)
        .filter_map(|id| Some((tokens.get(id)?, scores[id])))
        .flat_map_iter(|(token, score)| {
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
        builder = builder.unk_token(token.to_owned());
    }
    builder.build().map_err(failed)
}

fn pieces_steps(inner: &mut Pipeline<BPE>, space_prefix: bool) -> Result<(), TokenizerError> {
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
    Ok(())
}

/// `bos $A eos`, as far as they are.
pub(crate) fn framing(
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
