//! The text side of a model, in a directory or in a GGUF file: tokenizer and chat template, and whether the tokenizer
//! fits the embedding.

use std::path::Path;

use parlor_text::{ChatTemplate, Tokenizer, TokenizerError};

use crate::arch;
use crate::error::{LoadErrorKind, ModelLoadError};
use crate::gguf::{Gguf, Metadata, is_gguf};
use crate::text_files::TextFiles;

/// The tokenizer and the template of `dir`, where it has them. `rows` are the embedding's: a token id beyond them
/// would have no vector.
pub(crate) fn read_text_side(
    dir: &Path,
    files: &TextFiles,
    rows: usize,
) -> Result<(Option<Tokenizer>, Option<ChatTemplate>), ModelLoadError> {
    let has_tokenizer =
        ["tokenizer.json", "vocab.json", "tokenizer.model"].iter().any(|name| files.get(name).is_some());
    if !has_tokenizer {
        return Ok((None, None));
    }
    let tokenizer = Tokenizer::from_dir(dir).map_err(|error| tokenizer_error(dir, error))?;
    check_size(dir, &tokenizer, rows)?;
    let template = ChatTemplate::from_dir(dir, &tokenizer).map_err(|error| {
        ModelLoadError::corrupt(
            dir,
            error.to_string(),
            "correct the template in chat_template.jinja or tokenizer_config.json, or remove it to use the model \
             without chat",
        )
    })?;
    Ok((Some(tokenizer), template))
}

fn check_size(path: &Path, tokenizer: &Tokenizer, rows: usize) -> Result<(), ModelLoadError> {
    let size = tokenizer.vocab_size();
    if size > rows {
        let last = size - 1;
        let token = u32::try_from(last).ok().and_then(|id| tokenizer.token(id)).unwrap_or_default();
        return Err(ModelLoadError::incompatible(
            path,
            format!(
                "the tokenizer has {size} tokens (the last one is {last}, `{token}`), but the model's embedding has \
                 only {rows} rows"
            ),
            "tokenizer and weights are of different models; use the tokenizer that belongs to these weights",
        ));
    }
    Ok(())
}

/// Tokenizer, template and what is odd about them.
pub type TextSide = (Option<Tokenizer>, Option<ChatTemplate>, Vec<String>);

/// The text side of a GGUF file; none when `path` is another thing. No weight is read.
///
/// # Errors
/// See [`ModelLoadError`].
pub fn read_gguf_text(path: &Path) -> Result<Option<TextSide>, ModelLoadError> {
    if !is_gguf(path) {
        return Ok(None);
    }
    gguf_text_side(&Gguf::open(path)?.metadata, usize::MAX).map(Some)
}

/// What a GGUF file's metadata hold. `rows` are the embedding's.
pub(crate) fn gguf_text_side(metadata: &Metadata, rows: usize) -> Result<TextSide, ModelLoadError> {
    const TEMPLATE: &str = "tokenizer.chat_template";
    let mut warnings = Vec::new();
    let Some(vocabulary) = arch::gguf::vocabulary(metadata, &mut warnings)? else {
        return Ok((None, None, warnings));
    };
    let tokenizer = Tokenizer::from_vocabulary(vocabulary).map_err(|error| {
        ModelLoadError::corrupt(
            metadata.path(),
            format!("the vocabulary is not usable: {error}"),
            "convert or download the model again",
        )
    })?;
    check_size(metadata.path(), &tokenizer, rows)?;
    let template = metadata
        .text(TEMPLATE)?
        .map(|source| ChatTemplate::new(source, tokenizer.special_texts()))
        .transpose()
        .map_err(|error| {
            let help = "use a file whose template is correct: templates are edited by `gguf_new_metadata.py`";
            metadata.problem(LoadErrorKind::Corrupt, TEMPLATE, error.to_string(), help)
        })?;
    Ok((Some(tokenizer), template, warnings))
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
