//! The less common generation settings, and those that Parlor does not have. Source: the attributes of
//! transformers' `GenerationConfig`; what each does is in `parlor-engine`.

use std::path::Path;

use serde_json::{Map, Value, json};

/// Settings that change what is generated. Absent ones have no effect.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GenerationSettings {
    /// Only tokens at least this many times as likely as the likeliest.
    pub min_p: Option<f64>,
    /// Probability mass of the tokens whose information content is closest to the entropy.
    pub typical_p: Option<f64>,
    /// Share of the distribution's entropy that the candidates keep.
    pub top_h: Option<f64>,
    /// Only tokens at least this likely.
    pub epsilon_cutoff: Option<f64>,
    /// `epsilon_cutoff`, relaxed where the distribution is flat.
    pub eta_cutoff: Option<f64>,
    /// Factor on the odds of the prompt's tokens.
    pub encoder_repetition_penalty: Option<f64>,
    /// N-grams of this size occur once in prompt and completion together; 0 is off.
    pub no_repeat_ngram_size: Option<u32>,
    /// N-grams of this size that the prompt holds do not occur in the completion; 0 is off.
    pub encoder_no_repeat_ngram_size: Option<u32>,
    /// Fewest tokens of prompt and completion together.
    pub min_length: Option<u32>,
    /// Fewest tokens of the completion; takes precedence over `min_length`.
    pub min_new_tokens: Option<u32>,
    /// Most tokens of prompt and completion together; `max_new_tokens` takes precedence.
    pub max_length: Option<u32>,
    /// Seconds after which the completion ends.
    pub max_time: Option<f64>,
    /// Texts that end the completion.
    pub stop_strings: Vec<String>,
    /// Tokens that are never generated.
    pub suppress_tokens: Vec<u32>,
    /// Tokens that no completion begins with.
    pub begin_suppress_tokens: Vec<u32>,
    /// Sequences of tokens that are never generated.
    pub bad_words_ids: Vec<Vec<u32>>,
    /// Sequences of tokens, and what is added to the logit of the last token after the others.
    pub sequence_bias: Vec<(Vec<u32>, f64)>,
    /// Token that follows a prompt of one token.
    pub forced_bos_token_id: Option<u32>,
    /// Tokens of which one ends a completion that reaches its maximum length.
    pub forced_eos_token_ids: Vec<u32>,
    /// After this many new tokens, the end becomes likelier by this factor per token.
    pub exponential_decay_length_penalty: Option<(u32, f64)>,
    /// Replace logits that are not finite.
    pub remove_invalid_values: bool,
}

/// A setting that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingProblem {
    /// Its name.
    pub key: String,
    /// What is wrong with it: file, key, what was expected, what was found.
    pub message: String,
}

/// Reads settings from the contents of a file, and collects what is wrong with them.
pub(crate) struct Settings<'a> {
    map: &'a Map<String, Value>,
    file: &'a Path,
    problems: Vec<SettingProblem>,
}

impl<'a> Settings<'a> {
    pub(crate) fn new(map: &'a Map<String, Value>, file: &'a Path) -> Self {
        Self { map, file, problems: Vec::new() }
    }

    pub(crate) fn into_problems(self) -> Vec<SettingProblem> {
        self.problems
    }

    fn get<T>(&mut self, key: &str, expected: &str, parse: impl Fn(&Value) -> Option<T>) -> Option<T> {
        let value = self.map.get(key).filter(|value| !value.is_null())?;
        let parsed = parse(value);
        if parsed.is_none() {
            let file = self.file.display();
            let message = format!(
                "{file}: `{key}` should be {expected}, but is {value}; correct it, or delete the key to use the \
                 default"
            );
            self.problems.push(SettingProblem { key: key.to_owned(), message });
        }
        parsed
    }

    pub(crate) fn flag(&mut self, key: &str) -> Option<bool> {
        self.get(key, "true or false", Value::as_bool)
    }

    pub(crate) fn number(&mut self, key: &str) -> Option<f64> {
        self.get(key, "a number", Value::as_f64)
    }

    /// A whole number; one below 0 means the same as 0.
    pub(crate) fn count(&mut self, key: &str) -> Option<u32> {
        self.get(key, "a whole number", |value| whole(value).map(clamp))
    }

    pub(crate) fn positive(&mut self, key: &str) -> Option<u32> {
        self.get(key, "a whole number of at least 1", |value| {
            whole(value).filter(|&number| number >= 1).map(clamp)
        })
    }

    fn ids(&mut self, key: &str) -> Vec<u32> {
        self.get(key, "a list of token ids", ids).unwrap_or_default()
    }
}

impl GenerationSettings {
    pub(crate) fn read(settings: &mut Settings<'_>) -> Self {
        let forced = |value: &Value| match value {
            Value::Array(list) => list.iter().map(exact_id).collect(),
            one => exact_id(one).map(|id| vec![id]),
        };
        let stops = |value: &Value| match value {
            Value::String(one) => Some(vec![one.clone()]),
            Value::Array(list) => list.iter().map(|text| text.as_str().map(str::to_owned)).collect(),
            _ => None,
        };
        let decay = |value: &Value| match value.as_array()?.as_slice() {
            [start, factor] => Some((clamp(whole(start)?), factor.as_f64()?)),
            _ => None,
        };
        let pairs = "a list of [[token ids], bias] pairs";
        Self {
            min_p: settings.number("min_p"),
            typical_p: settings.number("typical_p"),
            top_h: settings.number("top_h"),
            epsilon_cutoff: settings.number("epsilon_cutoff"),
            eta_cutoff: settings.number("eta_cutoff"),
            encoder_repetition_penalty: settings.number("encoder_repetition_penalty"),
            no_repeat_ngram_size: settings.count("no_repeat_ngram_size"),
            encoder_no_repeat_ngram_size: settings.count("encoder_no_repeat_ngram_size"),
            min_length: settings.count("min_length"),
            min_new_tokens: settings.count("min_new_tokens"),
            max_length: settings.positive("max_length"),
            max_time: settings.number("max_time"),
            stop_strings: settings
                .get("stop_strings", "a text or a list of texts", stops)
                .unwrap_or_default(),
            suppress_tokens: settings.ids("suppress_tokens"),
            begin_suppress_tokens: settings.ids("begin_suppress_tokens"),
            bad_words_ids: settings
                .get("bad_words_ids", "a list of lists of token ids", |value| {
                    value.as_array()?.iter().map(sequence).collect()
                })
                .unwrap_or_default(),
            sequence_bias: settings.get("sequence_bias", pairs, biases).unwrap_or_default(),
            forced_bos_token_id: settings.get("forced_bos_token_id", "a token id", exact_id),
            forced_eos_token_ids: settings
                .get("forced_eos_token_id", "a token id or a list of them", forced)
                .unwrap_or_default(),
            exponential_decay_length_penalty: settings.get(
                "exponential_decay_length_penalty",
                "a list of two numbers, [start, factor]",
                decay,
            ),
            remove_invalid_values: settings.flag("remove_invalid_values").unwrap_or(false),
        }
    }
}

/// A whole number, also one that is written as 50.0.
fn whole(value: &Value) -> Option<i64> {
    let float = || value.as_f64().filter(|number| number.fract() == 0.0 && number.abs() < 1e15);
    value.as_i64().or_else(|| float().map(|number| number as i64))
}

/// Numbers past the ends of the range mean the same as its ends.
fn clamp(number: i64) -> u32 {
    number.clamp(0, i64::from(u32::MAX)) as u32
}

fn exact_id(value: &Value) -> Option<u32> {
    whole(value).and_then(|id| u32::try_from(id).ok())
}

/// Token ids; numbers that no token has, such as -1, are left out.
fn ids(value: &Value) -> Option<Vec<u32>> {
    let list: Option<Vec<i64>> = value.as_array()?.iter().map(whole).collect();
    Some(list?.into_iter().filter_map(|id| u32::try_from(id).ok()).collect())
}

/// A sequence of at least one token.
fn sequence(value: &Value) -> Option<Vec<u32>> {
    let ids: Option<Vec<u32>> = value.as_array()?.iter().map(exact_id).collect();
    ids.filter(|ids| !ids.is_empty())
}

/// Pairs as transformers writes them, or an object whose keys are the printed tuples: `{"(5, 6)": -1.0}`.
fn biases(value: &Value) -> Option<Vec<(Vec<u32>, f64)>> {
    match value {
        Value::Array(list) => {
            let pair = |pair: &Value| match pair.as_array()?.as_slice() {
                [tokens, bias] => Some((sequence(tokens)?, bias.as_f64()?)),
                _ => None,
            };
            let pairs: Option<Vec<_>> = list.iter().map(pair).collect();
            // The last of several for one sequence counts.
            let mut last: Vec<(Vec<u32>, f64)> = Vec::new();
            for (tokens, bias) in pairs? {
                last.retain(|(other, _)| *other != tokens);
                last.push((tokens, bias));
            }
            Some(last)
        }
        Value::Object(map) => {
            let entry = |(key, bias): (&String, &Value)| {
                let inner = key.trim().trim_matches(['(', ')', '[', ']']);
                let tokens = inner.split(',').map(str::trim).filter(|token| !token.is_empty());
                let tokens: Option<Vec<u32>> = tokens.map(|token| token.parse().ok()).collect();
                Some((tokens.filter(|tokens| !tokens.is_empty())?, bias.as_f64()?))
            };
            map.iter().map(entry).collect()
        }
        _ => None,
    }
}

/// Settings that Parlor has.
const SUPPORTED: &[&str] = &[
    "do_sample",
    "temperature",
    "top_k",
    "top_p",
    "repetition_penalty",
    "max_new_tokens",
    "min_p",
    "typical_p",
    "top_h",
    "epsilon_cutoff",
    "eta_cutoff",
    "encoder_repetition_penalty",
    "no_repeat_ngram_size",
    "encoder_no_repeat_ngram_size",
    "min_length",
    "min_new_tokens",
    "max_length",
    "max_time",
    "stop_strings",
    "suppress_tokens",
    "begin_suppress_tokens",
    "bad_words_ids",
    "sequence_bias",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "exponential_decay_length_penalty",
    "remove_invalid_values",
];

/// Settings that change what is generated, and that Parlor does not have: name and meaning.
const UNSUPPORTED: &[(&str, &str)] = &[
    ("num_beams", "beam search"),
    ("num_beam_groups", "beam search in groups"),
    ("diversity_penalty", "beam search in groups"),
    ("constraints", "constrained beam search"),
    ("force_words_ids", "constrained beam search"),
    ("penalty_alpha", "contrastive search"),
    ("dola_layers", "decoding by contrasting layers"),
    ("guidance_scale", "classifier-free guidance"),
    ("watermarking_config", "a watermark"),
    ("token_healing", "token healing"),
    ("num_return_sequences", "several answers to a prompt"),
    ("prompt_lookup_num_tokens", "assisted decoding"),
    ("assistant_early_exit", "assisted decoding"),
    ("assistant_ensemble_weight", "assisted decoding"),
    ("speculation_type", "assisted decoding"),
    ("use_mtp", "multi-token prediction"),
];

/// Settings that do not change what Parlor generates: special tokens, caches, forms of output, and
/// parameters of beam search or of assisted decoding.
const WITHOUT_EFFECT: &[&str] = &[
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "decoder_start_token_id",
    "use_cache",
    "cache_config",
    "max_cache_len",
    "early_stopping",
    "length_penalty",
    "renormalize_logits",
    "low_memory",
    "is_assistant",
    "num_assistant_tokens",
    "num_assistant_tokens_schedule",
    "assistant_confidence_threshold",
    "assistant_lookbehind",
    "target_lookbehind",
    "max_matching_ngram_size",
    "output_attentions",
    "output_hidden_states",
    "output_scores",
    "output_logits",
    "return_dict_in_generate",
    "compile_config",
    "disable_compile",
    "continuous_batching_config",
    "prefill_chunk_size",
    "transformers_version",
];

/// Whether `key` is one of transformers' generation settings other than the special tokens.
pub(crate) fn is_setting(key: &str) -> bool {
    SUPPORTED.contains(&key)
        || UNSUPPORTED.iter().any(|(name, _)| *name == key)
        || key == "cache_implementation"
}

/// Warnings about keys of `map` that transformers applies and Parlor does not, or that may be misspelled.
pub(crate) fn unsupported(map: &Map<String, Value>, file: &Path) -> Vec<String> {
    let file = file.display();
    let mut warnings = Vec::new();
    for (key, meaning) in UNSUPPORTED {
        if let Some(value) = map.get(*key).filter(|value| !is_neutral(key, value)) {
            warnings.push(format!(
                "{file}: `{key}` ({value}) asks for {meaning}, which Parlor does not have: it is not applied"
            ));
        }
    }
    if map.get("cache_implementation") == Some(&json!("quantized")) {
        warnings.push(format!(
            "{file}: `cache_implementation` (\"quantized\") is not applied: keys and values keep their precision"
        ));
    }
    let unknown: Vec<String> = map
        .keys()
        .filter(|key| !is_setting(key) && !WITHOUT_EFFECT.contains(&key.as_str()) && !key.starts_with('_'))
        .map(|key| format!("`{key}`"))
        .collect();
    if !unknown.is_empty() {
        let (are, they) = if unknown.len() == 1 {
            ("is no generation setting", "it has")
        } else {
            ("are no generation settings", "they have")
        };
        warnings.push(format!("{file}: {} {are} of transformers: {they} no effect", unknown.join(", ")));
    }
    warnings
}

/// Whether a setting that Parlor does not have is at its neutral value.
fn is_neutral(key: &str, value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(list) => list.is_empty(),
        Value::Number(_) => match key {
            "num_beams" | "num_beam_groups" | "num_return_sequences" | "guidance_scale" => {
                value.as_f64() == Some(1.0)
            }
            "penalty_alpha" | "diversity_penalty" => value.as_f64() == Some(0.0),
            _ => false,
        },
        _ => false,
    }
}
