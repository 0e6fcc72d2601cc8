//! What splits a tokenizer's texts: the `tokenizers` crate's tokenizer of the whole vocabulary, or of what a word meets until
//! there is enough text to build that for.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::tokenizer::TokenizerError;
use crate::vocabulary::{Large, Pipeline};
use crate::word_by_word::WordByWord;

/// So many bytes of text are split word by word: that takes a tenth of the time that a large vocabulary takes to build.
const WORD_BY_WORD: usize = 1 << 14;

/// The crate's tokenizer, or what it can be built of.
#[derive(Debug)]
pub(crate) struct Splitter {
    /// Or why it cannot be.
    whole: OnceLock<Result<tokenizers::Tokenizer, String>>,
    large: Option<Large>,
    /// Bytes that were asked about without the whole.
    split: AtomicUsize,
}

/// As much of it as is built.
pub(crate) enum Built<'a> {
    Whole(&'a tokenizers::Tokenizer),
    WordByWord(&'a Pipeline<WordByWord>),
}

/// The same call to either.
macro_rules! call {
    ($built:expr, $tokenizer:ident => $call:expr) => {
        match $built {
            Built::Whole($tokenizer) => $call,
            Built::WordByWord($tokenizer) => $call,
        }
    };
}

pub(crate) use call;

impl Splitter {
    pub(crate) fn of(whole: tokenizers::Tokenizer) -> Self {
        Self { whole: OnceLock::from(Ok(whole)), large: None, split: AtomicUsize::new(0) }
    }

    pub(crate) fn of_large(large: Large) -> Self {
        Self { whole: OnceLock::new(), large: Some(large), split: AtomicUsize::new(0) }
    }

    /// All of it, built now if it is not there; who else asks meanwhile waits.
    pub(crate) fn whole(&self) -> Result<&tokenizers::Tokenizer, TokenizerError> {
        let built = self.whole.get_or_init(|| match self.large.as_ref().map(Large::whole) {
            Some(Ok(whole)) => Ok(whole),
            Some(Err(TokenizerError::Use(why))) => Err(why),
            Some(Err(other)) => Err(other.to_string()),
            None => Err("there is no vocabulary".to_owned()),
        });
        built.as_ref().map_err(|why| TokenizerError::Use(why.clone()))
    }

    /// What splits a text of so many bytes.
    pub(crate) fn for_text(&self, bytes: usize) -> Result<Built<'_>, TokenizerError> {
        if let (None, Some(large)) = (self.whole.get(), &self.large) {
            let before = self.split.fetch_add(bytes, Ordering::Relaxed);
            if before.saturating_add(bytes) <= WORD_BY_WORD {
                return Ok(Built::WordByWord(&large.quick));
            }
        }
        self.whole().map(Built::Whole)
    }

    /// What knows the tokens.
    pub(crate) fn built(&self) -> Result<Built<'_>, TokenizerError> {
        match (self.whole.get(), &self.large) {
            (Some(Ok(whole)), _) => Ok(Built::Whole(whole)),
            (_, Some(large)) => Ok(Built::WordByWord(&large.quick)),
            _ => self.whole().map(Built::Whole),
        }
    }
}
