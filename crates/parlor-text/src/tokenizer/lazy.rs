//! What splits a tokenizer's texts: the `tokenizers` crate's tokenizer of the whole vocabulary, or of what a word meets until
//! there is enough text to build that for.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::pipeline::Pipeline;
use crate::tokenizer::TokenizerError;
use crate::vocabulary::Large;
use crate::word_by_word::WordByWord;

/// So many bytes of text are split word by word: that takes a tenth of the time that a large vocabulary takes to build.
const WORD_BY_WORD: usize = 1 << 14;

/// The crate's tokenizer, or what it can be built of.
#[derive(Debug)]
pub(crate) enum Splitter {
    Whole(Box<tokenizers::Tokenizer>),
    Large {
        large: Box<Large>,
        /// What was built of it, or why it cannot be.
        whole: OnceLock<Result<Box<tokenizers::Tokenizer>, String>>,
        /// Bytes that were asked about without the whole.
        split: AtomicUsize,
    },
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
        Self::Whole(Box::new(whole))
    }

    pub(crate) fn of_large(large: Large) -> Self {
        Self::Large { large: Box::new(large), whole: OnceLock::new(), split: AtomicUsize::new(0) }
    }

    /// All of it, built now if it is not there; who else asks meanwhile waits.
    pub(crate) fn whole(&self) -> Result<&tokenizers::Tokenizer, TokenizerError> {
        let (large, whole) = match self {
            Self::Whole(whole) => return Ok(whole),
            Self::Large { large, whole, .. } => (large, whole),
        };
        let built = whole.get_or_init(|| match large.whole() {
            Ok(whole) => Ok(Box::new(whole)),
            Err(TokenizerError::Use(why)) => Err(why),
            Err(other) => Err(other.to_string()),
        });
        built.as_ref().map(Box::as_ref).map_err(|why| TokenizerError::Use(why.clone()))
    }

    /// What splits a text of so many bytes.
    pub(crate) fn for_text(&self, bytes: usize) -> Result<Built<'_>, TokenizerError> {
        if let Self::Large { large, whole, split } = self
            && whole.get().is_none()
        {
            let before = split.fetch_add(bytes, Ordering::Relaxed);
            if before.saturating_add(bytes) <= WORD_BY_WORD {
                return Ok(Built::WordByWord(&large.quick));
            }
        }
        self.whole().map(Built::Whole)
    }

    /// What knows the tokens.
    pub(crate) fn built(&self) -> Built<'_> {
        match self {
            Self::Whole(whole) => Built::Whole(whole),
            Self::Large { large, whole, .. } => match whole.get() {
                Some(Ok(whole)) => Built::Whole(whole),
                _ => Built::WordByWord(&large.quick),
            },
        }
    }
}
