//! The text side's files of a model directory, byte for byte, so that a saved model has exactly those of the
//! model it came from.

use std::path::Path;

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
    /// Whether there is a chat template: in a file of its own, or as a key of `tokenizer_config.json`.
    pub fn has_chat_template(&self) -> bool {
        let key = || {
            let config: serde_json::Value =
                serde_json::from_slice(self.get("tokenizer_config.json")?).ok()?;
            config.get("chat_template").map(|template| !template.is_null())
        };
        self.get("chat_template.jinja").is_some()
            || self.get("chat_template.json").is_some()
            || key().unwrap_or(false)
    }
}
