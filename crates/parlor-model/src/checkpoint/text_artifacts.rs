//! The tokenizer and the chat template of a model, in a directory or in a GGUF file, and whether the
//! tokenizer fits the embedding.

use std::path::Path;

use parlor_text::{ChatTemplate, NamedTemplates, Tokenizer, TokenizerError};

use crate::arch;
use crate::error::{LoadErrorKind, ModelLoadError};
use crate::files::{Gguf, Metadata, TextFiles, is_gguf};

/// Tokenizer and chat template of a model, and what the user should know about them.
#[derive(Debug, Default)]
pub struct TextArtifacts {
    /// Text to token ids; `None` when there is no tokenizer.
    pub tokenizer: Option<Tokenizer>,
    /// Conversations to text; `None` when there is no template.
    pub chat_template: Option<ChatTemplate>,
    /// Warnings, one sentence each.
    pub warnings: Vec<String>,
}

/// The tokenizer and the template of `dir`, where it has them. `rows` are the embedding's: where they are
/// fewer than the tokens, as in models whose tokenizer was given a padding token, texts without the tokens
/// beyond can be used, as in transformers.
///
/// # Errors
/// `Corrupt` or `Incompatible` for a tokenizer or a template that cannot be used.
pub(crate) fn read_text_artifacts(
    dir: &Path,
    files: &TextFiles,
    rows: usize,
) -> Result<TextArtifacts, ModelLoadError> {
    let has_tokenizer =
        ["tokenizer.json", "vocab.json", "tokenizer.model"].iter().any(|name| files.get(name).is_some());
    if !has_tokenizer {
        return Ok(TextArtifacts::default());
    }
    let tokenizer = Tokenizer::from_dir(dir).map_err(|error| tokenizer_error(dir, error))?;
    let warnings =
        size_problem(&tokenizer, rows).map(|what| format!("{what}: texts with such tokens are refused"));
    let tokenizer = tokenizer.with_rows(rows);
    let chat_template = ChatTemplate::from_dir(dir, &tokenizer).map_err(|error| {
        ModelLoadError::corrupt(
            dir,
            error.to_string(),
            "correct the template in chat_template.jinja or tokenizer_config.json, or remove it to use the model \
             without chat",
        )
    })?;
    Ok(TextArtifacts { tokenizer: Some(tokenizer), chat_template, warnings: warnings.into_iter().collect() })
}

/// The problem of a tokenizer with more tokens than `rows`.
fn size_problem(tokenizer: &Tokenizer, rows: usize) -> Option<String> {
    let size = tokenizer.vocab_size();
    let last = size.checked_sub(1).filter(|_| size > rows)?;
    let token = u32::try_from(last).ok().and_then(|id| tokenizer.token(id)).unwrap_or_default();
    Some(format!(
        "the tokenizer has {size} tokens (the last one is {last}, `{token}`), but the model's embedding has only {rows} rows"
    ))
}

/// The tokenizer and the template of a GGUF file; `None` when `path` is something else. No weight is read.
///
/// # Errors
/// See [`ModelLoadError`].
pub fn read_gguf_text(path: &Path) -> Result<Option<TextArtifacts>, ModelLoadError> {
    if !is_gguf(path) {
        return Ok(None);
    }
    let metadata = Gguf::open(path)?.metadata;
    let mut artifacts = gguf_text_artifacts(&metadata, usize::MAX)?;
    if let Some(family) = arch::unsupported_gguf_family(&metadata)? {
        artifacts.warnings.push(format!(
            "this file holds a model of type `{family}`, which is not supported: its vocabulary can be used, its weights \
             cannot"
        ));
    }
    Ok(Some(artifacts))
}

/// The tokenizer and the template in a GGUF file's metadata. `rows` are the embedding's.
///
/// # Errors
/// Those of [`read_gguf_text`], and `Incompatible` for a vocabulary that is larger than the embedding.
pub(crate) fn gguf_text_artifacts(metadata: &Metadata, rows: usize) -> Result<TextArtifacts, ModelLoadError> {
    const TEMPLATE: &str = "tokenizer.chat_template";
    const TOOL_TEMPLATE: &str = "tokenizer.chat_template.tool_use";
    let mut warnings = Vec::new();
    let Some(vocabulary) = arch::gguf::vocabulary(metadata, &mut warnings)? else {
        return Ok(TextArtifacts { warnings, ..TextArtifacts::default() });
    };
    let tokenizer = Tokenizer::from_vocabulary(vocabulary).map_err(|error| {
        ModelLoadError::corrupt(
            metadata.path(),
            format!("the vocabulary is not usable: {error}"),
            "convert or download the model again",
        )
    })?;
    if let Some(what) = size_problem(&tokenizer, rows) {
        let help = "the file is damaged, or was converted by a program with an error; get another one";
        return Err(ModelLoadError::incompatible(metadata.path(), what, help));
    }
    let tool_use = metadata.text(TOOL_TEMPLATE)?.map(str::to_owned);
    let chat_template = metadata
        .text(TEMPLATE)?
        .map(|source| NamedTemplates { default: source.to_owned(), tool_use })
        .map(|sources| ChatTemplate::named(&sources, tokenizer.special_texts()))
        .transpose()
        .map_err(|error| {
            let help = "use a file whose template is correct: templates are edited by `gguf_new_metadata.py`";
            metadata.problem(LoadErrorKind::Corrupt, TEMPLATE, error.to_string(), help)
        })?;
    Ok(TextArtifacts { tokenizer: Some(tokenizer), chat_template, warnings })
}

fn tokenizer_error(dir: &Path, error: TokenizerError) -> ModelLoadError {
    const AGAIN: &str = "copy or download the tokenizer's files again";
    match error {
        TokenizerError::Io { path, source } => ModelLoadError::reading(&path, &source),
        TokenizerError::Corrupt { path, why } => {
            ModelLoadError::corrupt(&path, format!("this is not a usable tokenizer file: {why}"), AGAIN)
        }
        other => ModelLoadError::incompatible(
            dir,
            other.to_string(),
            "save the tokenizer as tokenizer.json: in Python, \
             `AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)`",
        ),
    }
}
