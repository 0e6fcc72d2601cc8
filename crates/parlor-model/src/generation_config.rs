//! `generation_config.json`: special tokens and default sampling settings. Source: transformers'
//! `GenerationConfig`.
//!
//! Token ids that it lacks come from `config.json`, where older models keep them. Keys that Parlor does not use
//! are kept and written back.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::error::ModelLoadError;

/// A model's special tokens and the sampling settings that its makers recommend.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GenerationConfig {
    /// Token that starts a sequence.
    pub bos_token_id: Option<u32>,
    /// Tokens that end one; empty when the model names none.
    pub eos_token_ids: Vec<u32>,
    /// Token that pads a batch in other programs; Parlor never pads.
    pub pad_token_id: Option<u32>,
    /// Whether to sample (true) or take the likeliest token.
    pub do_sample: Option<bool>,
    /// Sampling temperature.
    pub temperature: Option<f64>,
    /// How many of the likeliest tokens are candidates; 0 is all.
    pub top_k: Option<u32>,
    /// Probability mass of the candidates.
    pub top_p: Option<f64>,
    /// Divides the logits of tokens seen before; 1 is none.
    pub repetition_penalty: Option<f64>,
    /// Most tokens to generate.
    pub max_new_tokens: Option<u32>,
    /// All other keys, as they were.
    pub other: Map<String, Value>,
}

const KNOWN: [&str; 9] = [
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "do_sample",
    "temperature",
    "top_k",
    "top_p",
    "repetition_penalty",
    "max_new_tokens",
];

struct Reader<'a> {
    map: &'a Map<String, Value>,
    file: &'a Path,
}

impl Reader<'_> {
    fn wrong(&self, key: &str, expected: &str, found: &Value) -> ModelLoadError {
        ModelLoadError::corrupt(
            self.file,
            format!("`{key}` should be {expected}, but is {found}"),
            format!("correct `{key}`, or delete the key to use the default"),
        )
    }

    fn read<T>(
        &self,
        key: &str,
        expected: &str,
        parse: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<T>, ModelLoadError> {
        match self.map.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => parse(value).map(Some).ok_or_else(|| self.wrong(key, expected, value)),
        }
    }

    fn token(&self, key: &str) -> Result<Option<u32>, ModelLoadError> {
        // -1 is how old llama files say "none".
        if self.map.get(key).is_some_and(|value| value == &json!(-1)) {
            return Ok(None);
        }
        self.read(key, "a token id", token_id)
    }

    fn tokens(&self, key: &str) -> Result<Option<Vec<u32>>, ModelLoadError> {
        self.read(key, "a token id or a list of them", |value| match value {
            Value::Array(list) => list.iter().map(token_id).collect(),
            one => token_id(one).map(|id| vec![id]),
        })
    }

    fn number(&self, key: &str) -> Result<Option<f64>, ModelLoadError> {
        self.read(key, "a number of at least 0", |value| {
            value.as_f64().filter(|number| number.is_finite() && *number >= 0.0)
        })
    }
}

fn token_id(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|id| u32::try_from(id).ok())
}

impl GenerationConfig {
    /// From the contents of `generation_config.json`, if there is one, over those of `config.json`.
    ///
    /// # Errors
    /// `Corrupt`, naming file and key, for a value of the wrong type.
    pub fn read(
        generation: Option<(&Map<String, Value>, &Path)>,
        config: (&Map<String, Value>, &Path),
    ) -> Result<Self, ModelLoadError> {
        let fallback = Reader { map: config.0, file: config.1 };
        let empty = Map::new();
        let (map, file) = generation.unwrap_or((&empty, config.1));
        let own = Reader { map, file };
        let token = |key: &str| match own.token(key)? {
            Some(id) => Ok(Some(id)),
            None => fallback.token(key),
        };
        let eos = match own.tokens("eos_token_id")? {
            Some(ids) => ids,
            None => fallback.tokens("eos_token_id")?.unwrap_or_default(),
        };
        let whole = |key: &str| own.read(key, "a whole number of at least 0", token_id);
        Ok(Self {
            bos_token_id: token("bos_token_id")?,
            eos_token_ids: eos,
            pad_token_id: token("pad_token_id")?,
            do_sample: own.read("do_sample", "true or false", Value::as_bool)?,
            temperature: own.number("temperature")?,
            top_k: whole("top_k")?,
            top_p: own.number("top_p")?,
            repetition_penalty: own.number("repetition_penalty")?,
            max_new_tokens: whole("max_new_tokens")?,
            other: map
                .iter()
                .filter(|(key, _)| !KNOWN.contains(&key.as_str()))
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect(),
        })
    }

    /// `eos_token_id` as Hugging Face writes it: one id, or a list of several.
    pub(crate) fn eos_value(&self) -> Option<Value> {
        match self.eos_token_ids.as_slice() {
            [] => None,
            [one] => Some(json!(one)),
            several => Some(json!(several)),
        }
    }

    /// The contents of `generation_config.json`.
    pub fn to_json(&self) -> Map<String, Value> {
        let mut map = Map::new();
        let mut put = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                map.insert(key.to_owned(), value);
            }
        };
        put("bos_token_id", self.bos_token_id.map(Value::from));
        put("eos_token_id", self.eos_value());
        put("pad_token_id", self.pad_token_id.map(Value::from));
        put("do_sample", self.do_sample.map(Value::from));
        put("temperature", self.temperature.map(Value::from));
        put("top_k", self.top_k.map(Value::from));
        put("top_p", self.top_p.map(Value::from));
        put("repetition_penalty", self.repetition_penalty.map(Value::from));
        put("max_new_tokens", self.max_new_tokens.map(Value::from));
        map.extend(self.other.clone());
        map
    }
}
