//! Pipelines of the `tokenizers` crate: a model with its normalizer, pre-tokenizer, post-processor, decoder
//! and added tokens.

use tokenizers::models::bpe::BPE;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, DecoderWrapper, Model, NormalizerWrapper, PostProcessorWrapper, TokenizerImpl};

use super::error::{TokenizerError, failed};

/// A tokenizer whose kind of model is known at compile time.
pub(super) type Pipeline<M> =
    TokenizerImpl<M, NormalizerWrapper, PreTokenizerWrapper, PostProcessorWrapper, DecoderWrapper>;

/// The tokenizer that a `tokenizer.json` describes, without its padding and truncation: a ragged batch has no
/// padding, and rows are cut by `data.max_length`, so both would only hide text from it.
pub(super) fn from_json(json: &[u8]) -> Result<tokenizers::Tokenizer, TokenizerError> {
    // BPE is tried first because the crate's own reader, which finds out the kind of model, goes through
    // `serde_json::Value` and takes three times as long.
    let mut tokenizer = match serde_json::from_slice::<Pipeline<BPE>>(json) {
        Ok(tokenizer) => tokenizer.into(),
        Err(_) => tokenizers::Tokenizer::from_bytes(json).map_err(failed)?,
    };
    tokenizer.with_padding(None);
    tokenizer.with_truncation(None).map_err(failed)?;
    Ok(tokenizer)
}

/// The tokens of a vocabulary that are matched before a text is split, and those that frame every text.
#[derive(Debug)]
pub(super) struct AddedTokens {
    pub(super) bos: Option<(u32, String)>,
    pub(super) eos: Option<(u32, String)>,
    pub(super) added: Vec<AddedToken>,
}

impl AddedTokens {
    /// Adds them to a pipeline.
    pub(super) fn add_to<M: Model>(&self, pipeline: &mut Pipeline<M>) -> Result<(), TokenizerError> {
        if self.bos.is_some() || self.eos.is_some() {
            pipeline.with_post_processor(Some(framing(self.bos.clone(), self.eos.clone())?));
        }
        pipeline.add_tokens(self.added.clone()).map_err(failed)?;
        Ok(())
    }
}

/// The post-processor that frames a text: `bos $A eos`, each of the two where it is given.
pub(super) fn framing(
    bos: Option<(u32, String)>,
    eos: Option<(u32, String)>,
) -> Result<TemplateProcessing, TokenizerError> {
    let mut pieces = vec!["$A".to_owned()];
    if let Some((_, bos)) = &bos {
        pieces.insert(0, bos.clone());
    }
    if let Some((_, eos)) = &eos {
        pieces.push(eos.clone());
    }
    let tokens: Vec<(String, u32)> = bos.into_iter().chain(eos).map(|(id, text)| (text, id)).collect();
    TemplateProcessing::builder()
        .try_single(pieces)
        .map_err(failed)?
        .special_tokens(tokens)
        .build()
        .map_err(failed)
}
