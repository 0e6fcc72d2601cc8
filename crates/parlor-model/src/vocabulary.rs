//! The text side of a model directory: tokenizer and chat template, and whether the tokenizer fits the embedding.

use std::path::Path;

use parlor_text::{ChatTemplate, Tokenizer, TokenizerError};

use crate::error::ModelLoadError;
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
    let size = tokenizer.vocab_size();
    if size > rows {
        let last = size - 1;
        let token = u32::try_from(last).ok().and_then(|id| tokenizer.token(id)).unwrap_or_default();
        return Err(ModelLoadError::incompatible(
            dir,
            format!(
                "the tokenizer has {size} tokens (the last one is {last}, `{token}`), but the model's embedding has \
                 only {rows} rows"
            ),
            "tokenizer and weights are of different models; use the tokenizer that belongs to these weights",
        ));
    }
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
