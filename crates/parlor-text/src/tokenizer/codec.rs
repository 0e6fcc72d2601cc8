//! A tokenizer: text to ids and back, by the `tokenizers` crate.
//!
//! `files.rs` reads one from a model directory, `from_vocabulary.rs` makes one of the vocabulary of a weight
//! file.

use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use rayon::prelude::*;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::deferred::DeferredTokenizer;
use super::error::{TokenizerError, failed};
use super::files::{self, FileTokenizer};
use super::lazy::{Current, LazyTokenizer, call};
use super::special_tokens::{SPECIAL, SpecialToken, SpecialTokens, token_text};

/// Text to ids and back. A clone shares the vocabulary.
///
/// ```
/// use parlor_text::{SpecialTokens, Tokenizer};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/models/qwen2_chat");
/// let tokenizer = Tokenizer::from_dir(&directory)?;
/// let ids = tokenizer.encode("Hello, world", SpecialTokens::Include)?;
/// assert_eq!(tokenizer.decode(&ids, SpecialTokens::Omit)?, "Hello, world");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: Arc<LazyTokenizer>,
    vocab_size: usize,
    /// Rows of the model's embedding, when fewer than the vocabulary.
    rows: Option<usize>,
    /// `tokenizer_config.json`, without the template.
    config: Map<String, Value>,
    /// The model's own `eos_token_id`.
    model_eos: Option<u32>,
    /// Computed on first use: writing out a large vocabulary takes longer than loading it.
    hash: Arc<OnceLock<String>>,
}

impl Tokenizer {
    /// Loads the tokenizer of a model directory.
    ///
    /// # Errors
    /// [`TokenizerError`] that names the file.
    pub fn from_dir(directory: &Path) -> Result<Self, TokenizerError> {
        let files = files::read(directory)?;
        let model_eos = files.model_eos;
        let mut config = files.config;
        config.remove("chat_template");
        let own = match files.tokenizer {
            FileTokenizer::Built(built) => Self::from_parts(*built, config)?,
            FileTokenizer::Deferred(deferred, size) => Self::from_deferred(*deferred, config, size),
        };
        Ok(Self { model_eos, ..own })
    }

    /// Loads one `tokenizer.json`.
    ///
    /// # Errors
    /// [`TokenizerError`] that names the file.
    pub fn from_file(path: &Path) -> Result<Self, TokenizerError> {
        Self::from_parts(files::parse(path)?, Map::new())
    }

    pub(super) fn from_parts(
        mut inner: tokenizers::Tokenizer,
        mut config: Map<String, Value>,
    ) -> Result<Self, TokenizerError> {
        // A ragged batch has no padding, and rows are cut by `data.max_length`: both would only hide text
        // from it.
        inner.with_padding(None);
        inner.with_truncation(None).map_err(failed)?;
        config.remove("chat_template");
        // When each id below the number of tokens has a token, no id is higher. Looking is faster than
        // copying the vocabulary.
        let count = inner.get_vocab_size(true);
        let vocab_size = match (0..count as u32).into_par_iter().all(|id| inner.id_to_token(id).is_some()) {
            true => count,
            false => inner.get_vocab(true).values().max().map_or(0, |&id| id as usize + 1),
        };
        Ok(Self::from_built(inner, config, vocab_size))
    }

    /// Without padding and truncation, and with `vocab_size`, the highest id plus one, known.
    pub(super) fn from_built(
        inner: tokenizers::Tokenizer,
        config: Map<String, Value>,
        vocab_size: usize,
    ) -> Self {
        Self::of(LazyTokenizer::built(inner), config, vocab_size)
    }

    /// With a vocabulary that is built later.
    pub(super) fn from_deferred(
        deferred: DeferredTokenizer,
        config: Map<String, Value>,
        vocab_size: usize,
    ) -> Self {
        Self::of(LazyTokenizer::deferred(deferred), config, vocab_size)
    }

    fn of(inner: LazyTokenizer, config: Map<String, Value>, vocab_size: usize) -> Self {
        Self { inner: Arc::new(inner), vocab_size, rows: None, config, model_eos: None, hash: Arc::default() }
    }

    /// The same tokenizer for an embedding of `rows` rows: encoding a text with a token beyond them is an error.
    #[must_use]
    pub fn with_rows(self, rows: usize) -> Self {
        Self { rows: (rows < self.vocab_size).then_some(rows), ..self }
    }

    /// An error when one of `ids` has no row in the embedding.
    ///
    /// # Errors
    /// [`TokenizerError::NoRow`].
    pub fn require_rows(&self, ids: &[u32]) -> Result<(), TokenizerError> {
        let Some(rows) = self.rows else { return Ok(()) };
        match ids.iter().find(|&&id| id as usize >= rows) {
            None => Ok(()),
            Some(&id) => Err(TokenizerError::NoRow { token: self.token(id).unwrap_or_default(), id, rows }),
        }
    }

    /// Ids of `text`.
    ///
    /// # Errors
    /// [`TokenizerError::Use`] when the tokenizer cannot represent it.
    pub fn encode(&self, text: &str, special: SpecialTokens) -> Result<Vec<u32>, TokenizerError> {
        let special = special == SpecialTokens::Include;
        let current = self.inner.for_text(text.len())?;
        let encoding = call!(current, tokenizer => tokenizer.encode_fast(text, special));
        let encoding = encoding.map_err(failed)?;
        self.require_rows(encoding.get_ids())?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Ids of each text, computed on all cores.
    ///
    /// # Errors
    /// [`TokenizerError::Use`] when the tokenizer cannot represent one.
    pub fn encode_batch(
        &self,
        texts: Vec<String>,
        special: SpecialTokens,
    ) -> Result<Vec<Vec<u32>>, TokenizerError> {
        let encodings = self.inner.whole()?.encode_batch_fast(texts, special == SpecialTokens::Include);
        let encodings = encodings.map_err(failed)?;
        encodings.iter().try_for_each(|encoding| self.require_rows(encoding.get_ids()))?;
        Ok(encodings.iter().map(|encoding| encoding.get_ids().to_vec()).collect())
    }

    /// Ids of `text`, without framing tokens, and the bytes of `text` that each came from.
    ///
    /// # Errors
    /// [`TokenizerError::Use`] when the tokenizer cannot represent it.
    pub fn encode_with_offsets(&self, text: &str) -> Result<Vec<(u32, Range<usize>)>, TokenizerError> {
        let current = self.inner.for_text(text.len())?;
        let encoding = call!(current, tokenizer => tokenizer.encode(text, false));
        let encoding = encoding.map_err(failed)?;
        self.require_rows(encoding.get_ids())?;
        let ranges = encoding.get_offsets().iter().map(|&(start, end)| start..end);
        Ok(encoding.get_ids().iter().copied().zip(ranges).collect())
    }

    /// Text of `ids`; an id outside the vocabulary has none.
    ///
    /// # Errors
    /// [`TokenizerError::Use`] when the decoder fails.
    pub fn decode(&self, ids: &[u32], special: SpecialTokens) -> Result<String, TokenizerError> {
        let special = special == SpecialTokens::Omit;
        let text = call!(self.inner.current(), tokenizer => tokenizer.decode(ids, special));
        text.map_err(failed)
    }

    /// Rows that an embedding needs: the highest id plus one, added tokens included.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// The token with this id, as the vocabulary spells it.
    pub fn token(&self, id: u32) -> Option<String> {
        call!(self.inner.current(), tokenizer => tokenizer.id_to_token(id))
    }

    /// The id of a token, as the vocabulary spells it.
    pub fn id(&self, token: &str) -> Option<u32> {
        call!(self.inner.current(), tokenizer => tokenizer.token_to_id(token))
    }

    /// The ids of all special tokens.
    pub fn special_ids(&self) -> impl Iterator<Item = u32> {
        let added = call!(self.inner.current(), tokenizer => tokenizer.get_added_tokens_decoder());
        added.into_iter().filter(|(_, token)| token.special).map(|(id, _)| id)
    }

    /// Beginning of a sequence.
    pub fn bos(&self) -> Option<SpecialToken> {
        self.special("bos_token")
    }

    /// End of a sequence: what its own files name, else the first of the model's `eos_token_id`.
    pub fn eos(&self) -> Option<SpecialToken> {
        let of_model = || {
            let id = self.model_eos?;
            Some(SpecialToken { id, text: self.token(id)? })
        };
        self.special("eos_token").or_else(of_model)
    }

    /// Padding; Parlor itself never pads.
    pub fn pad(&self) -> Option<SpecialToken> {
        self.special("pad_token")
    }

    /// SHA-256 of `tokenizer.json`'s canonical form, in hexadecimal.
    pub fn content_hash(&self) -> &str {
        self.hash.get_or_init(|| {
            // Never fails: what was read or built can be written.
            let text =
                self.inner.whole().ok().and_then(|whole| whole.to_string(false).ok()).unwrap_or_default();
            Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
        })
    }

    /// Texts of the special tokens by their HF name, as chat templates use them.
    pub fn special_texts(&self) -> Map<String, Value> {
        SPECIAL
            .iter()
            .filter_map(|name| {
                Some(((*name).to_owned(), Value::String(token_text(self.config.get(*name)?)?)))
            })
            .collect()
    }

    fn special(&self, name: &str) -> Option<SpecialToken> {
        let text = token_text(self.config.get(name)?)?;
        Some(SpecialToken { id: self.id(&text)?, text })
    }

    /// `tokenizer.json`, `tokenizer_config.json` and `special_tokens_map.json` by name, for Parlor and for
    /// `transformers` 4 and 5.
    ///
    /// # Errors
    /// [`TokenizerError::Use`] when the vocabulary cannot be written down.
    pub fn files(&self) -> Result<[(&'static str, String); 3], TokenizerError> {
        let text = self.inner.whole()?.to_string(true).map_err(failed)?;
        let mut config = self.config.clone();
        config.insert("tokenizer_class".to_owned(), "PreTrainedTokenizerFast".into());
        config.remove("auto_map");
        Ok([
            ("tokenizer.json", text),
            ("tokenizer_config.json", pretty(&Value::Object(config))),
            ("special_tokens_map.json", pretty(&Value::Object(self.special_texts()))),
        ])
    }

    /// Writes its [files](Self::files) into an existing directory.
    ///
    /// # Errors
    /// [`TokenizerError::Io`] that names the file.
    pub fn save(&self, directory: &Path) -> Result<(), TokenizerError> {
        self.files()?.iter().try_for_each(|(name, text)| write(&directory.join(name), text))
    }
}

fn write(path: &Path, text: &str) -> Result<(), TokenizerError> {
    std::fs::write(path, text).map_err(|source| TokenizerError::Io { path: path.to_owned(), source })
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}
