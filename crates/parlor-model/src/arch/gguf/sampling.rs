//! Sampling settings in a GGUF file: `general.sampling.*`, which llama.cpp's converter writes from
//! generation_config.json, and which its programs apply.

use serde_json::{Map, Value, json};

use crate::error::ModelLoadError;
use crate::files::Metadata;

/// Keys after `general.sampling.`, and transformers' names.
const SAME: [(&str, &str); 5] = [
    ("temp", "temperature"),
    ("top_k", "top_k"),
    ("top_p", "top_p"),
    ("min_p", "min_p"),
    ("penalty_repeat", "repetition_penalty"),
];

/// Keys that Parlor has no setting for: the neutral value, and what others mean.
const OTHERS: [(&str, f64, &str); 2] =
    [("mirostat", 0.0, "mirostat sampling"), ("xtc_probability", 0.0, "exclusion of top choices")];

/// The settings by transformers' names, and warnings about those that Parlor does not have.
pub(super) fn sampling(metadata: &Metadata) -> Result<(Map<String, Value>, Vec<String>), ModelLoadError> {
    let mut settings = Map::new();
    for (key, name) in SAME {
        if let Some(value) = number(metadata, &full(key))? {
            // Whole numbers as such: a count is one.
            let value = if value.fract() == 0.0 { json!(value as i64) } else { json!(value) };
            settings.insert(name.to_owned(), value);
        }
    }
    if !settings.is_empty() {
        let greedy = settings.get("temperature").and_then(Value::as_f64).is_some_and(|value| value <= 0.0);
        settings.insert("do_sample".to_owned(), json!(!greedy));
    }
    let mut warnings = Vec::new();
    let file = metadata.path().display();
    for (key, neutral, meaning) in OTHERS {
        if let Some(value) = number(metadata, &full(key))?.filter(|&value| value != neutral) {
            let key = full(key);
            warnings.push(format!(
                "{file}: `{key}` ({value}) asks for {meaning}, which Parlor does not have: it is not applied"
            ));
        }
    }
    Ok((settings, warnings))
}

fn full(key: &str) -> String {
    format!("general.sampling.{key}")
}

/// An integer or a float.
fn number(metadata: &Metadata, key: &str) -> Result<Option<f64>, ModelLoadError> {
    match metadata.integer(key) {
        Ok(value) => Ok(value.map(|value| value as f64)),
        // Negative or with a fraction.
        Err(_) => metadata.number(key),
    }
}
