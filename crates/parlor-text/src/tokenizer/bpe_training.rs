//! Trains a byte-level BPE tokenizer on the user's own text, for models that are trained from scratch.
//!
//! The split into words is the one of recent open models: contractions, letters with a leading space, digits in
//! groups of up to three, punctuation, line breaks. Every byte is a token, so nothing is unknown.

use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, SplitDelimiterBehavior, TokenizerImpl};

use super::codec::Tokenizer;
use super::error::{TokenizerError, failed};

const WORDS: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|",
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);

/// What to train.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BpeOptions {
    /// Number of tokens, special ones and the 256 bytes included.
    pub vocab_size: usize,
    /// Pairs seen less often are not merged.
    pub min_frequency: u64,
    /// Tokens that are never split, first in the vocabulary; the first ends sequences.
    pub special_tokens: Vec<String>,
}

impl Default for BpeOptions {
    fn default() -> Self {
        let special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];
        Self { vocab_size: 8192, min_frequency: 2, special_tokens: special.map(str::to_owned).to_vec() }
    }
}

/// Trains a tokenizer on `texts`; the same texts in the same order give the same tokenizer.
///
/// # Errors
/// [`TokenizerError::Use`] when the trainer fails, or the vocabulary has no room for the bytes.
pub fn train_bpe(
    texts: impl Iterator<Item = String> + Send,
    options: &BpeOptions,
) -> Result<Tokenizer, TokenizerError> {
    let least = 256 + options.special_tokens.len();
    if options.vocab_size < least {
        return Err(TokenizerError::Use(format!(
            "a vocabulary of {} tokens is too small: the bytes and special tokens alone are {least}",
            options.vocab_size
        )));
    }
    let split = Split::new(SplitPattern::Regex(WORDS.to_owned()), SplitDelimiterBehavior::Isolated, false)
        .map_err(failed)?;
    let steps: Vec<PreTokenizerWrapper> = vec![split.into(), ByteLevel::new(false, true, false).into()];
    let mut tokenizer: TokenizerImpl<BPE, tokenizers::NormalizerWrapper, PreTokenizerWrapper, _, ByteLevel> =
        TokenizerImpl::<_, _, _, tokenizers::PostProcessorWrapper, _>::new(BPE::default());
    tokenizer.with_pre_tokenizer(Some(Sequence::new(steps)));
    tokenizer.with_decoder(Some(ByteLevel::default()));
    let special = |text: &String| AddedToken::from(text.clone(), true);
    let mut trainer = BpeTrainer::builder()
        .vocab_size(options.vocab_size)
        .min_frequency(options.min_frequency)
        .special_tokens(options.special_tokens.iter().map(special).collect())
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .show_progress(false)
        .build();
    tokenizer.train(&mut trainer, texts).map_err(failed)?;
    // Through its file format, so that the tokenizer in use is exactly the one that is saved.
    let text = tokenizer.to_string(false).map_err(failed)?;
    let inner = tokenizers::Tokenizer::from_bytes(text).map_err(failed)?;
    let mut config = serde_json::Map::new();
    config.insert("tokenizer_class".to_owned(), "PreTrainedTokenizerFast".into());
    if let Some(eos) = options.special_tokens.first() {
        config.insert("eos_token".to_owned(), eos.clone().into());
    }
    config.insert("clean_up_tokenization_spaces".to_owned(), false.into());
    Tokenizer::from_parts(inner, config)
}
