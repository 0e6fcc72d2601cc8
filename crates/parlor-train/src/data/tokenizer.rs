//! The tokenizer of a new model.

use parlor_text::{BpeOptions, ChatTemplate, Tokenizer, train_bpe};

use super::reader::{RowReader, TextSample};
use crate::artifacts::TextArtifacts;
use crate::config::FromScratchConfig;
use crate::error::TrainError;
use parlor_files::FillError;

/// Most text that a tokenizer is trained on, in bytes.
const TOKENIZER_TEXT: u64 = 256 << 20;

/// Tokenizer and template of a new model: the tokenizer that the config names, or a byte-level BPE trained on
/// at most 256 MiB of the text of `rows`; the template that comes with it, or ChatML.
///
/// # Errors
/// When the tokenizer cannot be read or trained.
pub(crate) fn new_text_artifacts(
    config: &FromScratchConfig,
    rows: &RowReader,
    warnings: &mut Vec<String>,
) -> Result<TextArtifacts, TrainError> {
    let failed = |error: FillError| TrainError::data("cannot make the tokenizer", error);
    let (tokenizer, own) = match &config.tokenizer {
        Some(path) if path.is_dir() => {
            let tokenizer = Tokenizer::from_dir(path).map_err(|error| failed(Box::new(error)))?;
            let template =
                ChatTemplate::from_dir(path, &tokenizer).map_err(|error| failed(Box::new(error)))?;
            (tokenizer, template)
        }
        Some(path) => (Tokenizer::from_file(path).map_err(|error| failed(Box::new(error)))?, None),
        None => {
            let options = BpeOptions { vocab_size: config.vocab_size, ..BpeOptions::default() };
            let sample = rows.sample(TOKENIZER_TEXT);
            let mebibytes = TOKENIZER_TEXT >> 20;
            let of = match sample {
                TextSample::Share(share) if share < 1.0 => {
                    Some(format!("{:.1}% of the rows, about {mebibytes} MiB of their text", share * 100.0))
                }
                TextSample::Share(_) => None,
                TextSample::First(_) => {
                    Some(format!("the first {mebibytes} MiB of text, where there is so much"))
                }
            };
            warnings.extend(of.map(|of| format!("the tokenizer is trained on {of}")));
            let tokenizer = rows.texts(sample, |texts| train_bpe(texts, &options))?;
            let tokenizer = tokenizer.map_err(|error| failed(Box::new(error)))?;
            (tokenizer, None)
        }
    };
    let template = match own {
        Some(template) => template,
        None => ChatTemplate::chatml(&tokenizer).map_err(|error| failed(Box::new(error)))?,
    };
    Ok(TextArtifacts { tokenizer, template: Some(template) })
}
