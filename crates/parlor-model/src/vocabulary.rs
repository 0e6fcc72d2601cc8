//! Whether tokenizer and embedding fit: a token id beyond the embedding would have no vector.
//!
//! Source: the layout of `tokenizer.json` (`tokenizers` crate): `model.vocab` (an object, or for Unigram a list),
//! and `added_tokens`.

use std::path::Path;

use serde_json::Value;

use crate::error::ModelLoadError;

/// Refuses a tokenizer that has ids for which the embedding of `rows` rows has no vector.
pub(crate) fn check_vocabulary(
    tokenizer_json: &[u8],
    file: &Path,
    rows: usize,
) -> Result<(), ModelLoadError> {
    let tokenizer: Value = serde_json::from_slice(tokenizer_json).map_err(|error| {
        ModelLoadError::corrupt(
            file,
            format!("this is not valid JSON: {error}"),
            "restore the file from the model's original",
        )
    })?;
    match largest_id(&tokenizer) {
        Some((id, token)) if id >= rows as u64 => Err(ModelLoadError::incompatible(
            file,
            format!(
                "the tokenizer has token ids up to {id} (`{token}`), but the model's embedding has only {rows} rows, \
                 for ids up to {}",
                rows.saturating_sub(1)
            ),
            "tokenizer and weights are of different models; use the tokenizer.json that belongs to these weights",
        )),
        _ => Ok(()),
    }
}

fn largest_id(tokenizer: &Value) -> Option<(u64, String)> {
    let vocab = tokenizer.get("model").and_then(|model| model.get("vocab"));
    let model = match vocab {
        Some(Value::Object(map)) => {
            map.iter().filter_map(|(token, id)| Some((id.as_u64()?, token.clone()))).max()
        }
        Some(Value::Array(list)) => list.last().map(|last| {
            let token = last.get(0).and_then(Value::as_str).unwrap_or_default();
            (list.len() as u64 - 1, token.to_owned())
        }),
        _ => None,
    };
    let added = tokenizer.get("added_tokens").and_then(Value::as_array).and_then(|list| {
        list.iter()
            .filter_map(|token| {
                let content = token.get("content").and_then(Value::as_str).unwrap_or_default();
                Some((token.get("id")?.as_u64()?, content.to_owned()))
            })
            .max()
    });
    model.max(added)
}
