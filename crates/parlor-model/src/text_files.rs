//! The text side's files of a model directory, byte for byte, so that a saved model has exactly those of the
//! model it came from.

use std::borrow::Cow;
use std::path::Path;

use parlor_text::{ChatTemplate, Tokenizer, TokenizerError};

use crate::error::ModelLoadError;

/// Names that belong to the tokenizer and the chat template, in Hugging Face layout.
const NAMES: [&str; 10] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
    "chat_template.json",
    "LICENSE",
];

/// Files by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TextFiles {
    files: Vec<(String, Vec<u8>)>,
}

impl TextFiles {
    /// Those of `dir` that exist.
    ///
    /// # Errors
    /// When one exists and cannot be read.
    pub fn read(dir: &Path) -> Result<Self, ModelLoadError> {
        let mut files = Self::default();
        for name in NAMES {
            let path = dir.join(name);
            if path.is_file() {
                let bytes = std::fs::read(&path).map_err(|error| ModelLoadError::reading(&path, &error))?;
                files.set(name, bytes);
            }
        }
        Ok(files)
    }

    /// Adds or replaces the file `name`.
    pub fn set(&mut self, name: &str, bytes: Vec<u8>) {
        match self.files.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = bytes,
            None => self.files.push((name.to_owned(), bytes)),
        }
    }

    /// The contents of the file `name`.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.files.iter().find(|(known, _)| known == name).map(|(_, bytes)| bytes.as_slice())
    }

    /// All files: name and contents.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
    }
}

impl TextFiles {
    /// Those of a new model, written for Parlor and for transformers 4 and 5.
    ///
    /// # Errors
    /// When the tokenizer cannot be written to the system's temporary directory.
    pub fn of_new(tokenizer: &Tokenizer, template: Option<&ChatTemplate>) -> Result<Self, TokenizerError> {
        let failed = |source| TokenizerError::Io { path: "a temporary directory".into(), source };
        let dir = tempfile::tempdir().map_err(failed)?;
        tokenizer.save(dir.path())?;
        let mut files = Self::read(dir.path()).map_err(|error| TokenizerError::Use(error.to_string()))?;
        if let Some(template) = template {
            files.set("chat_template.jinja", template.source().as_bytes().to_vec());
        }
        Ok(files)
    }

    /// The files as they are saved: as they are, but for a `tokenizer_class` that transformers 4 cannot load.
    pub(crate) fn for_saving(&self) -> Vec<(&str, Cow<'_, [u8]>)> {
        self.iter().map(|(name, bytes)| (name, portable(name, bytes))).collect()
    }
}

/// transformers 5 writes the class `TokenizersBackend`; its older name is read by 4 and 5.
fn portable<'a>(name: &str, bytes: &'a [u8]) -> Cow<'a, [u8]> {
    let patched = || {
        let mut config: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(bytes).ok()?;
        let class = config.get_mut("tokenizer_class").filter(|class| *class == "TokenizersBackend")?;
        *class = "PreTrainedTokenizerFast".into();
        serde_json::to_vec_pretty(&config).ok()
    };
    match name {
        "tokenizer_config.json" => patched().map_or(Cow::Borrowed(bytes), Cow::Owned),
        _ => Cow::Borrowed(bytes),
    }
}
