//! A model of the `tokenizers` crate with what is before and after it, and how one is read.

use tokenizers::models::bpe::BPE;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::{DecoderWrapper, NormalizerWrapper, PostProcessorWrapper, TokenizerImpl};

use crate::tokenizer::TokenizerError;
use crate::vocabulary::failed;

/// A model and what is before and after it.
pub(crate) type Pipeline<M> =
    TokenizerImpl<M, NormalizerWrapper, PreTokenizerWrapper, PostProcessorWrapper, DecoderWrapper>;

/// The tokenizer that a `tokenizer.json` describes, without its padding and truncation: a ragged batch has no padding, and
/// rows are cut by `data.max_length`, so that both would only hide text from it.
pub(crate) fn built(json: &[u8]) -> Result<tokenizers::Tokenizer, TokenizerError> {
    // A tokenizer whose kind of model is known before it is read: where it is to be found out, the crate holds all of it as
    // JSON values first, which takes three times as long.
    let mut tokenizer = match serde_json::from_slice::<Pipeline<BPE>>(json) {
        Ok(tokenizer) => tokenizer.into(),
        Err(_) => tokenizers::Tokenizer::from_bytes(json).map_err(failed)?,
    };
    tokenizer.with_padding(None);
    tokenizer.with_truncation(None).map_err(failed)?;
    Ok(tokenizer)
}
