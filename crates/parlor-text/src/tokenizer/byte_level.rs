//! Byte-level BPE (GPT-2's, `tokenizers`' `ByteLevel`) from a list of tokens and a list of merges.

use tokenizers::SplitDelimiterBehavior;
use tokenizers::models::bpe::{BPE, BpeBuilder, Merges};
use tokenizers::normalizers::NFC;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};

use super::error::{TokenizerError, failed};
use super::pipeline::{AddedTokens, Pipeline};
use super::texts::Texts;
use super::vocabulary::token_ids;

/// What surrounds the model of a byte-level BPE tokenizer.
#[derive(Debug)]
pub(super) struct ByteLevelSteps {
    /// Regular expressions of the pre-tokenizer, applied one after another.
    pub(super) words: &'static [&'static str],
    /// Whether text is normalized to NFC.
    pub(super) nfc: bool,
    pub(super) added: AddedTokens,
}

impl ByteLevelSteps {
    /// The pipeline around `model`.
    pub(super) fn pipeline<M: tokenizers::Model>(&self, model: M) -> Result<Pipeline<M>, TokenizerError> {
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
        self.added.add_to(&mut pipeline)?;
        Ok(pipeline)
    }
}

/// The two tokens of a merge, `left right`. A token may begin with a space and holds none after that.
pub fn merge_halves(merge: &str) -> Option<(&str, &str)> {
    let (at, _) = merge.char_indices().skip(1).find(|(_, c)| *c == ' ')?;
    Some((&merge[..at], &merge[at + 1..]))
}

/// The model of the whole vocabulary. With `whole_words`, a word that is a token is not split, whatever the
/// merges.
///
/// # Errors
/// For a merge that is no pair, or whose result is no token.
pub(super) fn bpe(tokens: &Texts, merges: &Texts, whole_words: bool) -> Result<BPE, TokenizerError> {
    let mut pairs = Merges::with_capacity(merges.len());
    // The crate joins a pair in a buffer as long as the longest token, so a longer pair must not reach it.
    let longest = tokens.longest();
    for merge in merges.iter() {
        let (left, right) =
            merge_halves(merge).ok_or_else(|| failed(format!("the merge `{merge}` is no pair")))?;
        if left.len() + right.len() > longest {
            return Err(failed(format!("the merge of `{left}` and `{right}` makes no token")));
        }
        pairs.push((left.to_owned(), right.to_owned()));
    }
    let builder = BpeBuilder::new().vocab_and_merges(token_ids(tokens), pairs).ignore_merges(whole_words);
    builder.build().map_err(failed)
}
