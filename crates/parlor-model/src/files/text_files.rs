//! Tokenizer and chat template files of a model, byte for byte, so that a saved model has exactly those of
//! the model it came from.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use parlor_text::{ChatTemplate, Tokenizer, TokenizerError};

use super::lfs;
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

type Files = Vec<(String, Vec<u8>)>;

/// Files by name.
#[derive(Clone, Debug, Default)]
pub struct TextFiles {
    files: Files,
    /// For a model without such files: what they are made of on first use, which takes longer than loading
    /// the model.
    source: Option<Source>,
}

#[derive(Clone, Debug)]
struct Source {
    tokenizer: Tokenizer,
    template: Option<ChatTemplate>,
    made: Arc<OnceLock<Files>>,
}

impl PartialEq for TextFiles {
    fn eq(&self, other: &Self) -> bool {
        self.all() == other.all()
    }
}

impl Eq for TextFiles {}

fn files_of(tokenizer: &Tokenizer, template: Option<&ChatTemplate>) -> Result<Files, TokenizerError> {
    let mut files: Files =
        tokenizer.files()?.into_iter().map(|(name, text)| (name.to_owned(), text.into_bytes())).collect();
    if let Some(template) = template {
        let own = template.files().into_iter();
        files.extend(own.map(|(name, source)| (name.to_owned(), source.as_bytes().to_vec())));
    }
    Ok(files)
}

impl TextFiles {
    fn all(&self) -> &Files {
        match &self.source {
            None => &self.files,
            Some(source) => source.made.get_or_init(|| {
                // A tokenizer that was built can be written.
                files_of(&source.tokenizer, source.template.as_ref()).unwrap_or_default()
            }),
        }
    }

    /// The files of a model whose tokenizer is not in files of its own.
    pub(crate) fn of_text_artifacts(tokenizer: &Tokenizer, template: Option<&ChatTemplate>) -> Self {
        let source =
            Source { tokenizer: tokenizer.clone(), template: template.cloned(), made: Arc::default() };
        Self { files: Vec::new(), source: Some(source) }
    }

    /// An error when a file in `dir` is the pointer that Git LFS leaves for a file that was not fetched.
    ///
    /// # Errors
    /// `NotFound`, naming the file.
    pub fn refuse_pointers(dir: &Path) -> Result<(), ModelLoadError> {
        NAMES.iter().try_for_each(|name| lfs::refuse_file(&dir.join(name)))
    }

    /// The files in `dir`.
    ///
    /// # Errors
    /// When one exists and cannot be read.
    pub fn read(dir: &Path) -> Result<Self, ModelLoadError> {
        let mut files = Self::default();
        for name in NAMES {
            let path = dir.join(name);
            if path.is_file() {
                let bytes = std::fs::read(&path).map_err(|error| ModelLoadError::reading(&path, &error))?;
                lfs::refuse(&path, &bytes)?;
                files.set(name, bytes);
            }
        }
        for (name, path) in named_templates(dir) {
            let bytes = std::fs::read(&path).map_err(|error| ModelLoadError::reading(&path, &error))?;
            files.set(&name, bytes);
        }
        Ok(files)
    }

    /// Adds or replaces the file `name`.
    pub fn set(&mut self, name: &str, bytes: Vec<u8>) {
        if self.source.is_some() {
            *self = Self { files: self.all().clone(), source: None };
        }
        match self.files.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = bytes,
            None => self.files.push((name.to_owned(), bytes)),
        }
    }

    /// The contents of the file `name`.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.all().iter().find(|(known, _)| known == name).map(|(_, bytes)| bytes.as_slice())
    }

    /// All files: name and contents.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.all().iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
    }
}

impl TextFiles {
    /// The files of a new model, for Parlor and for transformers 4 and 5.
    ///
    /// # Errors
    /// When the vocabulary cannot be written.
    pub fn of_new(tokenizer: &Tokenizer, template: Option<&ChatTemplate>) -> Result<Self, TokenizerError> {
        Ok(Self { files: files_of(tokenizer, template)?, source: None })
    }

    /// The files as they are saved: unchanged, except that a `tokenizer_class` that transformers 4 cannot
    /// load is replaced, and that several chat templates become a list in `tokenizer_config.json`, which
    /// transformers 4 and 5 read.
    pub(crate) fn for_saving(&self) -> Vec<(&str, Cow<'_, [u8]>)> {
        if let Some(config) = self.config_with_templates() {
            let others = self.iter().filter(|(name, _)| *name != CONFIG && template_name(name).is_none());
            let mut files: Vec<_> = others.map(|(name, bytes)| (name, Cow::Borrowed(bytes))).collect();
            files.push((CONFIG, Cow::Owned(portable(CONFIG, &config).into_owned())));
            return files;
        }
        self.iter().map(|(name, bytes)| (name, portable(name, bytes))).collect()
    }

    /// `tokenizer_config.json` with all chat templates, when there are others than the default one.
    fn config_with_templates(&self) -> Option<Vec<u8>> {
        let templates: Vec<(&str, &[u8])> =
            self.iter().filter_map(|(name, bytes)| Some((template_name(name)?, bytes))).collect();
        templates.iter().find(|(name, _)| *name != "default")?;
        let mut config: serde_json::Map<String, serde_json::Value> =
            self.get(CONFIG).and_then(|bytes| serde_json::from_slice(bytes).ok()).unwrap_or_default();
        let named = templates.iter().map(
            |(name, source)| serde_json::json!({ "name": name, "template": String::from_utf8_lossy(source) }),
        );
        config.insert("chat_template".to_owned(), named.collect());
        serde_json::to_vec_pretty(&config).ok()
    }
}

const CONFIG: &str = "tokenizer_config.json";
const DEFAULT_TEMPLATE: &str = "chat_template.jinja";
/// Where transformers 5 keeps templates of other names.
const NAMED_TEMPLATES: &str = "additional_chat_templates";

/// The name of the chat template that the file `name` holds.
fn template_name(name: &str) -> Option<&str> {
    match name.strip_prefix(NAMED_TEMPLATES) {
        Some(rest) => rest.strip_prefix('/')?.strip_suffix(".jinja"),
        None => (name == DEFAULT_TEMPLATE).then_some("default"),
    }
}

/// The files of `additional_chat_templates/`, in the order of their names; none where there is no such folder.
fn named_templates(dir: &Path) -> Vec<(String, PathBuf)> {
    let entries = std::fs::read_dir(dir.join(NAMED_TEMPLATES)).into_iter().flatten().flatten();
    let named = |entry: std::fs::DirEntry| {
        let name = format!("{NAMED_TEMPLATES}/{}", entry.file_name().to_str()?);
        template_name(&name)?;
        Some((name, entry.path()))
    };
    let mut found: Vec<_> = entries.filter_map(named).collect();
    found.sort();
    found
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
