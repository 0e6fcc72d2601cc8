//! BPE that builds, for each word, a model of the tokens and merges that occur in that word alone. No others
//! can apply while the word is split, so its tokens are those of the whole vocabulary.
//!
//! Building a vocabulary of 150,000 tokens in the `tokenizers` crate takes longer than a model needs to
//! answer a short prompt.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use tokenizers::models::bpe::{BpeBuilder, BpeTrainer, Merges, Vocab};
use tokenizers::{Model, Result, Token};

use super::byte_level::merge_halves;
use super::texts::{Duplicates, TextIndex, Texts};

/// A vocabulary as it was read, with indices of its tokens and merges.
#[derive(Clone, Debug)]
pub(super) struct LazyBpe {
    tokens: Texts,
    ids: TextIndex,
    /// `left right` each, in the order of their rank.
    merges: Texts,
    ranks: TextIndex,
    /// Bytes of the longest token.
    longest: usize,
    whole_words: bool,
    unknown: UnknownCharacters,
}

/// What becomes of characters that no token spells.
#[derive(Clone, Debug, Default)]
pub(super) struct UnknownCharacters {
    /// The token for them.
    pub(super) token: Option<String>,
    /// Whether several in a row become one token.
    pub(super) fuse: bool,
    /// Whether their bytes become tokens (`<0x0A>`), where the vocabulary has those.
    pub(super) byte_fallback: bool,
}

impl LazyBpe {
    pub(super) fn new(tokens: Texts, merges: Texts, whole_words: bool) -> Self {
        Self {
            ids: TextIndex::of(&tokens, Duplicates::First),
            ranks: TextIndex::of(&merges, Duplicates::Last),
            longest: tokens.longest(),
            tokens,
            merges,
            whole_words,
            unknown: UnknownCharacters::default(),
        }
    }

    pub(super) fn with_unknown(self, unknown: UnknownCharacters) -> Self {
        Self { unknown, ..self }
    }

    /// Tokens, merges, and whether a word that is a token is not split.
    pub(super) fn parts(&self) -> (&Texts, &Texts, bool) {
        (&self.tokens, &self.merges, self.whole_words)
    }

    /// The tokens that occur in `word`.
    fn tokens_in(&self, word: &str) -> Vocab {
        let mut found = Vocab::default();
        for (start, _) in word.char_indices() {
            let rest = &word[start..];
            let ends = rest.char_indices().skip(1).map(|(end, _)| end).chain([rest.len()]);
            for token in ends.take_while(|&end| end <= self.longest).map(|end| &rest[..end]) {
                if let Some(id) = self.token_to_id(token) {
                    found.insert(token.to_owned(), id);
                }
            }
        }
        let mut add = |token: &str| found.extend(self.token_to_id(token).map(|id| (token.to_owned(), id)));
        self.unknown.token.iter().for_each(|token| add(token));
        if self.unknown.byte_fallback {
            for c in word.chars() {
                let mut buffer = [0; 4];
                let spelled = c.encode_utf8(&mut buffer);
                if self.token_to_id(spelled).is_none() {
                    spelled.bytes().for_each(|byte| add(&format!("<0x{byte:02X}>")));
                }
            }
        }
        found
    }

    /// The merges that make one of `tokens` out of two others.
    fn merges_of(&self, tokens: &Vocab) -> Merges {
        let (mut found, mut line) = (Vec::new(), String::new());
        for token in tokens.keys() {
            for (at, _) in token.char_indices().skip(1) {
                let (left, right) = token.split_at(at);
                if tokens.contains_key(left) && tokens.contains_key(right) {
                    line.clear();
                    line.extend([left, " ", right]);
                    let rank = self.ranks.find(&self.merges, &line);
                    let rank = rank.filter(|_| merge_halves(&line) == Some((left, right)));
                    found.extend(rank.map(|rank| (rank, (left.to_owned(), right.to_owned()))));
                }
            }
        }
        found.sort_unstable_by_key(|(rank, _)| *rank);
        found.into_iter().map(|(_, merge)| merge).collect()
    }
}

impl Model for LazyBpe {
    type Trainer = BpeTrainer;

    fn tokenize(&self, word: &str) -> Result<Vec<Token>> {
        let tokens = self.tokens_in(word);
        let merges = self.merges_of(&tokens);
        let mut model = BpeBuilder::new().cache_capacity(0).vocab_and_merges(tokens, merges);
        if let Some(token) = &self.unknown.token {
            model = model.unk_token(token.clone());
        }
        let model = model.fuse_unk(self.unknown.fuse).byte_fallback(self.unknown.byte_fallback);
        model.ignore_merges(self.whole_words).build()?.tokenize(word)
    }

    fn token_to_id(&self, token: &str) -> Option<u32> {
        self.ids.find(&self.tokens, token)
    }

    fn id_to_token(&self, id: u32) -> Option<String> {
        self.tokens.get(id as usize).map(str::to_owned)
    }

    fn get_vocab(&self) -> HashMap<String, u32> {
        let ids = self.tokens.iter().filter_map(|token| Some((token.to_owned(), self.token_to_id(token)?)));
        ids.collect()
    }

    fn get_vocab_size(&self) -> usize {
        self.tokens.len()
    }

    fn save(&self, _: &Path, _: Option<&str>) -> Result<Vec<PathBuf>> {
        Err("only whole vocabularies are written".into())
    }

    fn get_trainer(&self) -> BpeTrainer {
        BpeTrainer::default()
    }
}
