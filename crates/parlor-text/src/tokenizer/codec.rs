//! A tokenizer: text to ids and back.
//!
//! The arithmetic is the `tokenizers` crate's. Which files of a model directory make one is in `tokenizer_files.rs`,
//! vocabularies that lie in other files are in `vocabulary.rs`.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rayon::prelude::*;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::lfs::{LFS_POINTER, is_lfs_pointer};
use crate::splitter::{Built, Splitter, call};
use crate::tokenizer_files::{self, Inner};
use crate::vocabulary::{Large, failed};

/// Why a tokenizer could not be loaded, used or saved.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// No file of a known kind.
    #[error(
        "{}: no tokenizer here; expected tokenizer.json, or vocab.json with merges.txt{hint}",
        .directory.display()
    )]
    NotFound {
        /// Where it was looked for.
        directory: PathBuf,
        /// What was found instead, as the end of the sentence.
        hint: &'static str,
    },
    /// A file that cannot be read or written.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A file whose content is wrong.
    #[error("{}: not a usable tokenizer file: {why}", .path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        why: String,
    },
    /// A token that the model has no vector for.
    #[error(
        "the token {token:?} has the id {id}, and the model's embedding has {rows} rows: leave the token out of the text, or \
         use a model that has it"
    )]
    NoRow {
        /// The token.
        token: String,
        /// Its id.
        id: u32,
        /// Rows of the embedding.
        rows: usize,
    },
    /// Text that could not be encoded, or ids that could not be decoded.
    #[error("the tokenizer failed: {0}")]
    Use(String),
}

/// Whether the tokens that frame a text (BOS, EOS) are added when it is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpecialTokens {
    /// As the tokenizer's post-processor says; when decoding, special tokens stay in the text.
    Include,
    /// None; when decoding, special tokens are left out of the text.
    Omit,
}

/// A special token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecialToken {
    /// Its id.
    pub id: u32,
    /// Its text.
    pub text: String,
}

/// Text to ids and back. A clone shares the vocabulary.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: Arc<Splitter>,
    vocab_size: usize,
    /// Rows of the model's embedding, where they are fewer.
    rows: Option<usize>,
    /// `tokenizer_config.json`, without the template.
    config: Map<String, Value>,
    /// `eos_token_id` of the model beside it.
    model_eos: Option<u32>,
    /// Computed when it is asked for: spelling out a large vocabulary takes longer than loading it.
    hash: Arc<OnceLock<String>>,
}

/// Files may hold large vocabularies, but not arbitrarily large ones.
const MAX_FILE: u64 = 512 << 20;

impl Tokenizer {
    /// Loads the tokenizer of a model directory.
    ///
    /// # Errors
    /// [`TokenizerError`] that names the file.
    pub fn from_dir(directory: &Path) -> Result<Self, TokenizerError> {
        let files = tokenizer_files::read(directory)?;
        let model_eos = files.model_eos;
        let mut config = files.config;
        config.remove("chat_template");
        let own = match files.inner {
            Inner::Whole(whole) => Self::from_parts(*whole, config)?,
            Inner::Large(large, size) => Self::from_large(*large, config, size),
        };
        Ok(Self { model_eos, ..own })
    }

    /// Loads one `tokenizer.json`.
    ///
    /// # Errors
    /// [`TokenizerError`] that names the file.
    pub fn from_file(path: &Path) -> Result<Self, TokenizerError> {
        Self::from_parts(tokenizer_files::parse(path)?, Map::new())
    }

    pub(crate) fn from_parts(
        mut inner: tokenizers::Tokenizer,
        mut config: Map<String, Value>,
    ) -> Result<Self, TokenizerError> {
        // A ragged batch has no padding, and rows are cut by `data.max_length`: both settings would only hide
        // text from it.
        inner.with_padding(None);
        inner.with_truncation(None).map_err(failed)?;
        config.remove("chat_template");
        // So many tokens on as many ids from 0 leave none for a higher one; a copy of the whole vocabulary takes longer.
        let count = inner.get_vocab_size(true);
        let vocab_size = match (0..count as u32).into_par_iter().all(|id| inner.id_to_token(id).is_some()) {
            true => count,
            false => inner.get_vocab(true).values().max().map_or(0, |&id| id as usize + 1),
        };
        Ok(Self::from_sized(inner, config, vocab_size))
    }

    /// The same where the highest id plus one is known, and nothing is padded or cut.
    pub(crate) fn from_sized(
        inner: tokenizers::Tokenizer,
        config: Map<String, Value>,
        vocab_size: usize,
    ) -> Self {
        Self::of(Splitter::of(inner), config, vocab_size)
    }

    /// The same of a vocabulary that is built when much text comes.
    pub(crate) fn from_large(large: Large, config: Map<String, Value>, vocab_size: usize) -> Self {
        Self::of(Splitter::of_large(large), config, vocab_size)
    }

    fn of(inner: Splitter, config: Map<String, Value>, vocab_size: usize) -> Self {
        Self { inner: Arc::new(inner), vocab_size, rows: None, config, model_eos: None, hash: Arc::default() }
    }

    /// The same beside an embedding of so many rows: a text with a token beyond them cannot be encoded.
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
        let built = self.inner.for_text(text.len())?;
        let encoding = call!(built, tokenizer => tokenizer.encode_fast(text, special));
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
        let built = self.inner.for_text(text.len())?;
        let encoding = call!(built, tokenizer => tokenizer.encode(text, false));
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
        let text = call!(self.inner.built(), tokenizer => tokenizer.decode(ids, special));
        text.map_err(failed)
    }

    /// Rows that an embedding needs: the highest id plus one, added tokens included.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// The token with this id, as the vocabulary spells it.
    pub fn token(&self, id: u32) -> Option<String> {
        call!(self.inner.built(), tokenizer => tokenizer.id_to_token(id))
    }

    /// The id of a token, as the vocabulary spells it.
    pub fn id(&self, token: &str) -> Option<u32> {
        call!(self.inner.built(), tokenizer => tokenizer.token_to_id(token))
    }

    /// The ids of all special tokens.
    pub fn special_ids(&self) -> impl Iterator<Item = u32> {
        let added = call!(self.inner.built(), tokenizer => tokenizer.get_added_tokens_decoder());
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
            // What was read or built can be written.
            let text =
                self.inner.whole().ok().and_then(|whole| whole.to_string(false).ok()).unwrap_or_default();
            Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
        })
    }

    /// Texts of the special tokens by their HF name, as chat templates use them.
    pub fn special_texts(&self) -> Map<String, Value> {
        tokenizer_files::SPECIAL
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

/// A special token's text: a string, or an object with `content`.
pub(crate) fn token_text(value: &Value) -> Option<String> {
    value.as_str().or_else(|| value.get("content")?.as_str()).map(str::to_owned)
}

pub(crate) fn read_limited(path: &Path) -> Result<Vec<u8>, TokenizerError> {
    let io = |source| TokenizerError::Io { path: path.to_owned(), source };
    let size = std::fs::metadata(path).map_err(io)?.len();
    if size > MAX_FILE {
        let why = format!("it has {size} bytes; at most {MAX_FILE} are read");
        return Err(TokenizerError::Corrupt { path: path.to_owned(), why });
    }
    let bytes = std::fs::read(path).map_err(io)?;
    match is_lfs_pointer(&bytes) {
        true => Err(TokenizerError::Corrupt { path: path.to_owned(), why: LFS_POINTER.to_owned() }),
        false => Ok(bytes),
    }
}

/// A JSON file that must hold an object.
pub(crate) fn json_object(path: &Path) -> Result<Map<String, Value>, TokenizerError> {
    let corrupt = |why| TokenizerError::Corrupt { path: path.to_owned(), why };
    match serde_json::from_slice(&read_limited(path)?) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(corrupt("an object was expected".to_owned())),
        Err(error) => Err(corrupt(error.to_string())),
    }
}

fn write(path: &Path, text: &str) -> Result<(), TokenizerError> {
    std::fs::write(path, text).map_err(|source| TokenizerError::Io { path: path.to_owned(), source })
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}
