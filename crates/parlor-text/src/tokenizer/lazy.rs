//! A tokenizer that builds its large vocabulary when there is enough text to be worth it, and encodes word by
//! word until then.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::deferred::DeferredTokenizer;
use super::error::TokenizerError;
use super::lazy_bpe::LazyBpe;
use super::pipeline::Pipeline;

/// Bytes of text that are encoded word by word. This many take a tenth of the time that building a large
/// vocabulary takes.
const WORD_BY_WORD: usize = 1 << 14;

/// The `tokenizers` crate's tokenizer, built or not yet.
#[derive(Debug)]
pub(super) enum LazyTokenizer {
    Built(Box<tokenizers::Tokenizer>),
    Deferred {
        deferred: Box<DeferredTokenizer>,
        /// The built tokenizer, or why it cannot be built.
        built: OnceLock<Result<Box<tokenizers::Tokenizer>, String>>,
        /// Bytes that were encoded before it was built.
        encoded: AtomicUsize,
    },
}

/// The pipeline that is there at the moment.
pub(super) enum Current<'a> {
    Built(&'a tokenizers::Tokenizer),
    Lazy(&'a Pipeline<LazyBpe>),
}

/// Makes the same call on either pipeline of a [`Current`].
macro_rules! call {
    ($current:expr, $tokenizer:ident => $call:expr) => {
        match $current {
            Current::Built($tokenizer) => $call,
            Current::Lazy($tokenizer) => $call,
        }
    };
}

pub(super) use call;

impl LazyTokenizer {
    pub(super) fn built(tokenizer: tokenizers::Tokenizer) -> Self {
        Self::Built(Box::new(tokenizer))
    }

    pub(super) fn deferred(deferred: DeferredTokenizer) -> Self {
        let (built, encoded) = (OnceLock::new(), AtomicUsize::new(0));
        Self::Deferred { deferred: Box::new(deferred), built, encoded }
    }

    /// The whole tokenizer. The first caller builds it; others wait for that.
    pub(super) fn whole(&self) -> Result<&tokenizers::Tokenizer, TokenizerError> {
        let (deferred, built) = match self {
            Self::Built(built) => return Ok(built),
            Self::Deferred { deferred, built, .. } => (deferred, built),
        };
        let built = built.get_or_init(|| match deferred.build() {
            Ok(built) => Ok(Box::new(built)),
            Err(TokenizerError::Use(why)) => Err(why),
            Err(other) => Err(other.to_string()),
        });
        built.as_ref().map(Box::as_ref).map_err(|why| TokenizerError::Use(why.clone()))
    }

    /// The pipeline that encodes a text of `bytes` bytes; builds the whole tokenizer past [`WORD_BY_WORD`]
    /// bytes in all.
    pub(super) fn for_text(&self, bytes: usize) -> Result<Current<'_>, TokenizerError> {
        if let Self::Deferred { deferred, built, encoded } = self
            && built.get().is_none()
        {
            let before = encoded.fetch_add(bytes, Ordering::Relaxed);
            if before.saturating_add(bytes) <= WORD_BY_WORD {
                return Ok(Current::Lazy(&deferred.lazy));
            }
        }
        self.whole().map(Current::Built)
    }

    /// The pipeline for decoding and for looking tokens up, which needs nothing built.
    pub(super) fn current(&self) -> Current<'_> {
        match self {
            Self::Built(built) => Current::Built(built),
            Self::Deferred { deferred, built, .. } => match built.get() {
                Some(Ok(built)) => Current::Built(built),
                _ => Current::Lazy(&deferred.lazy),
            },
        }
    }
}
