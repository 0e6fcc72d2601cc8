//! Typed reading of a Hugging Face `config.json`: every failure names the key, the file and the family.
//!
//! Sizes are bounded here, so that no later product of them overflows whatever the file says.

use std::path::Path;

use serde_json::{Map, Value};

use crate::error::ModelLoadError;

/// Largest accepted width, vocabulary or head count; about a hundred times the largest published model.
pub(crate) const LARGEST_WIDTH: u64 = 1 << 24;
pub(crate) const LARGEST_HEADS: u64 = 1 << 16;
pub(crate) const LARGEST_LAYERS: u64 = 10_000;
pub(crate) const LARGEST_CONTEXT: u64 = 1 << 31;

/// A `config.json` that is read as that of a family.
pub(crate) struct HfConfig<'a> {
    pub(crate) map: &'a Map<String, Value>,
    pub(crate) file: &'a Path,
    pub(crate) family: &'static str,
    /// Name of the section with a dot, for messages; empty at the top.
    pub(crate) section: String,
}

/// `null` counts as absent, as in transformers.
fn present<'a>(map: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    map.get(key).filter(|value| !value.is_null())
}

impl<'a> HfConfig<'a> {
    pub(crate) fn get(&self, key: &str) -> Option<&'a Value> {
        present(self.map, key)
    }

    /// Whether the key is present as `null`, as opposed to absent.
    pub(crate) fn is_null(&self, key: &str) -> bool {
        self.map.get(key).is_some_and(Value::is_null)
    }

    pub(crate) fn wrong(&self, key: &str, expected: &str, found: &Value) -> ModelLoadError {
        let mut found = found.to_string();
        if found.chars().count() > 60 {
            found = found.chars().take(60).chain("...".chars()).collect();
        }
        ModelLoadError::corrupt(
            self.file,
            format!(
                "`{0}{key}` of this {1} model should be {expected}, but is {found}",
                self.section, self.family
            ),
            format!("restore `{0}{key}` from the model's original config.json", self.section),
        )
    }

    pub(crate) fn missing(&self, key: &str) -> ModelLoadError {
        ModelLoadError::corrupt(
            self.file,
            format!("the key `{0}{key}` is missing, which a {1} model needs", self.section, self.family),
            format!("restore `{0}{key}` from the model's original config.json", self.section),
        )
    }

    pub(crate) fn unsupported(&self, key: &str, value: &Value, supported: &str) -> ModelLoadError {
        ModelLoadError::incompatible(
            self.file,
            format!("`{}{key}: {value}` is not supported for {} models", self.section, self.family),
            format!("Parlor supports {supported}; use a model with that"),
        )
    }

    fn bounded(&self, key: &str, most: u64) -> Result<Option<usize>, ModelLoadError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.as_u64() {
            Some(number) if (1..=most).contains(&number) => Ok(Some(number as usize)),
            _ => Err(self.wrong(key, &format!("a whole number from 1 to {most}"), value)),
        }
    }

    /// A width that may be absent.
    pub(crate) fn optional_width(&self, key: &str) -> Result<Option<usize>, ModelLoadError> {
        self.bounded(key, LARGEST_WIDTH)
    }

    /// A width.
    pub(crate) fn width(&self, key: &str) -> Result<usize, ModelLoadError> {
        self.optional_width(key)?.ok_or_else(|| self.missing(key))
    }

    /// A number of heads, or the width of one.
    pub(crate) fn optional_heads(&self, key: &str) -> Result<Option<usize>, ModelLoadError> {
        self.bounded(key, LARGEST_HEADS)
    }

    pub(crate) fn heads(&self, key: &str) -> Result<usize, ModelLoadError> {
        self.optional_heads(key)?.ok_or_else(|| self.missing(key))
    }

    pub(crate) fn layers(&self, key: &str) -> Result<usize, ModelLoadError> {
        self.bounded(key, LARGEST_LAYERS)?.ok_or_else(|| self.missing(key))
    }

    /// A number of positions that may be absent.
    pub(crate) fn optional_context(&self, key: &str) -> Result<Option<usize>, ModelLoadError> {
        self.bounded(key, LARGEST_CONTEXT)
    }

    /// A number above zero that may be absent.
    pub(crate) fn optional_positive(&self, key: &str) -> Result<Option<f64>, ModelLoadError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.as_f64() {
            Some(number) if number.is_finite() && number > 0.0 => Ok(Some(number)),
            _ => Err(self.wrong(key, "a number above 0", value)),
        }
    }

    pub(crate) fn positive(&self, key: &str) -> Result<f64, ModelLoadError> {
        self.optional_positive(key)?.ok_or_else(|| self.missing(key))
    }

    /// A boolean, with its default.
    pub(crate) fn flag(&self, key: &str, absent: bool) -> Result<bool, ModelLoadError> {
        match self.get(key) {
            None => Ok(absent),
            Some(value) => value.as_bool().ok_or_else(|| self.wrong(key, "true or false", value)),
        }
    }

    pub(crate) fn optional_text(&self, key: &str) -> Result<Option<&'a str>, ModelLoadError> {
        match self.get(key) {
            None => Ok(None),
            Some(value) => value.as_str().map(Some).ok_or_else(|| self.wrong(key, "a string", value)),
        }
    }

    /// The object under `key`, to read in the same way.
    pub(crate) fn section(&self, key: &str) -> Result<Option<HfConfig<'a>>, ModelLoadError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(HfConfig {
                map,
                file: self.file,
                family: self.family,
                section: format!("{}{key}.", self.section),
            })),
            Some(value) => Err(self.wrong(key, "an object", value)),
        }
    }
}

/// The dropout that a `config.json` sets for training: the keys and their probabilities above 0. Every family
/// has names of its own (`resid_pdrop`, `attention_dropout`).
pub(crate) fn dropout(config: &Map<String, Value>) -> Vec<(&str, f64)> {
    // GPT-2's `summary_` keys are of a head that is no language model's.
    let names_dropout =
        |key: &str| (key.ends_with("pdrop") || key.ends_with("dropout")) && !key.starts_with("summary_");
    let keys = config.iter().filter(|(key, _)| names_dropout(key));
    keys.filter_map(|(key, value)| Some((key.as_str(), value.as_f64()?))).filter(|(_, p)| *p > 0.0).collect()
}
