//! A tokenizer whose large vocabulary is not built into the `tokenizers` crate's form yet.

use super::byte_level::{self, ByteLevelSteps};
use super::error::TokenizerError;
use super::lazy_bpe::LazyBpe;
use super::pipeline::{self, Pipeline};

/// Vocabularies of at most this many tokens are built at once, which takes a millisecond.
pub(super) const DEFERRED_ABOVE: usize = 1 << 12;

/// What encodes until the whole vocabulary is built, and what that is built from.
#[derive(Debug)]
pub(super) struct DeferredTokenizer {
    pub(super) lazy: Pipeline<LazyBpe>,
    pub(super) source: DeferredSource,
}

/// What the whole tokenizer is built from.
#[derive(Debug)]
pub(super) enum DeferredSource {
    /// The tokens and merges of the lazy model.
    ByteLevel(ByteLevelSteps),
    /// The bytes of a `tokenizer.json`.
    Json(Vec<u8>),
}

impl DeferredTokenizer {
    /// Builds the whole tokenizer.
    pub(super) fn build(&self) -> Result<tokenizers::Tokenizer, TokenizerError> {
        match &self.source {
            DeferredSource::ByteLevel(steps) => {
                let (tokens, merges, whole_words) = self.lazy.get_model().parts();
                Ok(steps.pipeline(byte_level::bpe(tokens, merges, whole_words)?)?.into())
            }
            DeferredSource::Json(json) => pipeline::from_json(json),
        }
    }
}
