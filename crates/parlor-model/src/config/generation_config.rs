//! `generation_config.json`: special tokens and default generation settings. Source: transformers'
//! `GenerationConfig`, which reads them from `config.json` when the file is absent or is no JSON.
//!
//! Token ids that it lacks come from `config.json`, where older models keep them. Keys that Parlor does not
//! use are kept and written back. A token id of the wrong type is an error when the model is loaded; any
//! other setting that cannot be read is one when something is generated, because nothing else needs it.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::generation_settings::{GenerationSettings, SettingProblem, Settings, is_setting, unsupported};
use crate::error::ModelLoadError;

/// A model's special tokens and the generation settings that its makers recommend.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GenerationConfig {
    /// Token that starts a sequence.
    pub bos_token_id: Option<u32>,
    /// Tokens that end a sequence; empty when the model names none.
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
    /// Divides the logits of tokens that occurred before; 1 has no effect.
    pub repetition_penalty: Option<f64>,
    /// Maximum number of tokens to generate.
    pub max_new_tokens: Option<u32>,
    /// Further settings that change what is generated.
    pub settings: GenerationSettings,
    /// Settings that change what is generated and that Parlor does not have, one sentence each.
    pub warnings: Vec<String>,
    /// Settings that cannot be read. Nothing is generated with them.
    pub problems: Vec<SettingProblem>,
    /// The file's other keys, unchanged.
    pub other: Map<String, Value>,
}

/// Keys with a field of their own in [`GenerationConfig`].
const FIELDS: [&str; 9] = [
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

/// Special tokens of one file.
struct Tokens<'a> {
    map: &'a Map<String, Value>,
    file: &'a Path,
}

impl Tokens<'_> {
    fn wrong(&self, key: &str, expected: &str, found: &Value) -> ModelLoadError {
        ModelLoadError::corrupt(
            self.file,
            format!("`{key}` should be {expected}, but is {found}"),
            format!("correct `{key}`, or delete the key to use the default"),
        )
    }

    fn one(&self, key: &str) -> Result<Option<u32>, ModelLoadError> {
        match self.map.get(key).filter(|value| !value.is_null()) {
            None => Ok(None),
            Some(value) => token_id(value).ok_or_else(|| self.wrong(key, "a token id", value)),
        }
    }

    fn several(&self, key: &str) -> Result<Option<Vec<u32>>, ModelLoadError> {
        let value = match self.map.get(key).filter(|value| !value.is_null()) {
            None => return Ok(None),
            Some(value) => value,
        };
        let ids: Option<Vec<Option<u32>>> = match value {
            Value::Array(list) => list.iter().map(token_id).collect(),
            one => token_id(one).map(|id| vec![id]),
        };
        let ids = ids.ok_or_else(|| self.wrong(key, "a token id or a list of them", value))?;
        let ids: Vec<u32> = ids.into_iter().flatten().collect();
        // A list of ids that cannot occur names no token.
        Ok(Some(ids).filter(|ids| !ids.is_empty()))
    }
}

/// A token id. The inner `None` is a number that no token has: -1 is how old files say "none".
fn token_id(value: &Value) -> Option<Option<u32>> {
    match value.as_u64() {
        Some(id) => Some(u32::try_from(id).ok()),
        None => value.as_i64().map(|_| None),
    }
}

impl GenerationConfig {
    /// From the contents of `generation_config.json`; without it, from the generation settings in
    /// `config.json`.
    ///
    /// # Errors
    /// `Corrupt`, naming file and key, for a token id of the wrong type.
    pub fn read(
        generation: Option<(&Map<String, Value>, &Path)>,
        config: (&Map<String, Value>, &Path),
    ) -> Result<Self, ModelLoadError> {
        let fallback = Tokens { map: config.0, file: config.1 };
        let legacy: Map<String, Value>;
        let (map, file) = match generation {
            Some(own) => own,
            None => {
                legacy = settings_in(config.0);
                (&legacy, config.1)
            }
        };
        let own = Tokens { map, file };
        let token = |key: &str| match own.one(key)? {
            Some(id) => Ok(Some(id)),
            None => fallback.one(key),
        };
        let eos = match own.several("eos_token_id")? {
            Some(ids) => ids,
            None => fallback.several("eos_token_id")?.unwrap_or_default(),
        };
        let mut settings = Settings::new(map, file);
        Ok(Self {
            bos_token_id: token("bos_token_id")?,
            eos_token_ids: eos,
            pad_token_id: token("pad_token_id")?,
            do_sample: settings.flag("do_sample"),
            temperature: settings.number("temperature"),
            // Every number below 1 is how some program says "all".
            top_k: settings.count("top_k"),
            top_p: settings.number("top_p"),
            repetition_penalty: settings.number("repetition_penalty"),
            max_new_tokens: settings.positive("max_new_tokens"),
            settings: GenerationSettings::read(&mut settings),
            warnings: unsupported(map, file),
            problems: settings.into_problems(),
            other: map
                .iter()
                .filter(|(key, _)| !FIELDS.contains(&key.as_str()))
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

/// The generation settings in `config.json`, where models older than `generation_config.json` keep them.
fn settings_in(config: &Map<String, Value>) -> Map<String, Value> {
    let set = config.iter().filter(|(key, value)| is_setting(key) && !value.is_null());
    set.map(|(key, value)| (key.clone(), value.clone())).collect()
}
