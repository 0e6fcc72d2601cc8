//! Resolves the sampling parameters of a completion from a request, the user's configuration and the model.

use parlor_model::GenerationConfig;

use crate::params::SamplingParams;

/// Default for the number of new tokens.
const MAX_TOKENS: usize = 512;

/// Settings that override the model's own: those of a request (flags) or of the user's configuration. Absent
/// ones fall through to the next layer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SamplingOverrides {
    /// 0 is greedy.
    pub temperature: Option<f32>,
    /// 0 is all tokens.
    pub top_k: Option<usize>,
    /// 1 is all tokens.
    pub top_p: Option<f32>,
    /// 0 is all tokens.
    pub min_p: Option<f32>,
    /// 1 is all tokens.
    pub typical_p: Option<f32>,
    /// 1 is off.
    pub repetition_penalty: Option<f32>,
    /// 0 is off.
    pub frequency_penalty: Option<f32>,
    /// 0 is off.
    pub presence_penalty: Option<f32>,
    /// Makes the completion reproducible.
    pub seed: Option<u64>,
    /// Maximum number of new tokens.
    pub max_tokens: Option<usize>,
    /// Stop texts, in addition to the model's own.
    pub stop: Vec<String>,
    /// Continue after an end-of-sequence token.
    pub ignore_eos: bool,
}

impl SamplingOverrides {
    /// These settings, and those of `lower` where these are absent.
    pub fn over(self, lower: Self) -> Self {
        let mut stop = self.stop;
        stop.extend(lower.stop);
        Self {
            temperature: self.temperature.or(lower.temperature),
            top_k: self.top_k.or(lower.top_k),
            top_p: self.top_p.or(lower.top_p),
            min_p: self.min_p.or(lower.min_p),
            typical_p: self.typical_p.or(lower.typical_p),
            repetition_penalty: self.repetition_penalty.or(lower.repetition_penalty),
            frequency_penalty: self.frequency_penalty.or(lower.frequency_penalty),
            presence_penalty: self.presence_penalty.or(lower.presence_penalty),
            seed: self.seed.or(lower.seed),
            max_tokens: self.max_tokens.or(lower.max_tokens),
            stop,
            ignore_eos: self.ignore_eos || lower.ignore_eos,
        }
    }

    /// Whether one of these settings has an effect only when tokens are sampled.
    fn imply_sampling(&self) -> bool {
        self.top_k.is_some() || self.top_p.is_some() || self.min_p.is_some() || self.typical_p.is_some()
    }

    fn sets(&self, name: &str) -> bool {
        match name {
            "temperature" => self.temperature.is_some(),
            "top_k" => self.top_k.is_some(),
            "top_p" => self.top_p.is_some(),
            "min_p" => self.min_p.is_some(),
            "typical_p" => self.typical_p.is_some(),
            "repetition_penalty" => self.repetition_penalty.is_some(),
            "frequency_penalty" => self.frequency_penalty.is_some(),
            "presence_penalty" => self.presence_penalty.is_some(),
            "max_new_tokens" | "max_length" => self.max_tokens.is_some(),
            "stop" => !self.stop.is_empty(),
            _ => false,
        }
    }
}

/// The parameters of a completion.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    /// The parameters.
    pub params: SamplingParams,
    /// Settings of the model that have no effect, one sentence each.
    pub warnings: Vec<String>,
}

/// Resolves the parameters of a completion by these rules:
///
/// - Each setting is the first of: the override, the model's (`generation_config.json`), the neutral value
///   ([`SamplingParams::default`]). `max_new_tokens` takes precedence over `max_length`, and `min_new_tokens`
///   over `min_length`. Without either limit there are at most 512 new tokens.
/// - An override of `temperature` decides between greedy decoding (0) and sampling. Without one, an override
///   of `top_k`, `top_p`, `min_p` or `typical_p` implies sampling; else the model samples when its settings
///   have `do_sample: true`, and is greedy otherwise, as in transformers.
/// - Stop texts of all layers apply.
///
/// # Errors
/// The settings that cannot be read or are out of range, one sentence each.
pub fn resolve(overrides: &SamplingOverrides, model: &GenerationConfig) -> Result<Resolved, Vec<String>> {
    let settings = &model.settings;
    let neutral = SamplingParams::default();
    let float = |value: Option<f64>, neutral: f32| value.map_or(neutral, |value| value as f32);
    let samples = match overrides.temperature {
        Some(temperature) => temperature != 0.0,
        None => overrides.imply_sampling() || model.do_sample == Some(true),
    };
    let temperature = match (overrides.temperature, samples) {
        (Some(temperature), _) => temperature,
        (None, true) => float(model.temperature, neutral.temperature),
        (None, false) => 0.0,
    };
    let (max_tokens, max_length) = match (overrides.max_tokens, model.max_new_tokens, settings.max_length) {
        (Some(tokens), ..) => (tokens, None),
        (None, Some(tokens), _) => (tokens as usize, None),
        (None, None, Some(length)) => (usize::MAX, Some(length as usize)),
        (None, None, None) => (MAX_TOKENS, None),
    };
    let min_length = if settings.min_new_tokens.is_some() { None } else { settings.min_length };
    let count = |value: Option<u32>| value.map_or(0, |value| value as usize);
    let mut stop = overrides.stop.clone();
    stop.extend(settings.stop_strings.iter().filter(|text| !overrides.stop.contains(text)).cloned());
    let params = SamplingParams {
        temperature,
        top_k: overrides.top_k.unwrap_or(count(model.top_k)),
        top_p: overrides.top_p.unwrap_or(float(model.top_p, neutral.top_p)),
        min_p: overrides.min_p.unwrap_or(float(settings.min_p, neutral.min_p)),
        typical_p: overrides.typical_p.unwrap_or(float(settings.typical_p, neutral.typical_p)),
        top_h: settings.top_h.map(|top_h| top_h as f32),
        epsilon_cutoff: float(settings.epsilon_cutoff, neutral.epsilon_cutoff),
        eta_cutoff: float(settings.eta_cutoff, neutral.eta_cutoff),
        repetition_penalty: overrides
            .repetition_penalty
            .unwrap_or(float(model.repetition_penalty, neutral.repetition_penalty)),
        encoder_repetition_penalty: float(
            settings.encoder_repetition_penalty,
            neutral.encoder_repetition_penalty,
        ),
        frequency_penalty: overrides.frequency_penalty.unwrap_or(neutral.frequency_penalty),
        presence_penalty: overrides.presence_penalty.unwrap_or(neutral.presence_penalty),
        no_repeat_ngram_size: count(settings.no_repeat_ngram_size),
        encoder_no_repeat_ngram_size: count(settings.encoder_no_repeat_ngram_size),
        bad_words_ids: settings.bad_words_ids.clone(),
        sequence_bias: settings
            .sequence_bias
            .iter()
            .map(|(tokens, bias)| (tokens.clone(), *bias as f32))
            .collect(),
        suppress_tokens: settings.suppress_tokens.clone(),
        begin_suppress_tokens: settings.begin_suppress_tokens.clone(),
        forced_bos_token_id: settings.forced_bos_token_id,
        forced_eos_token_ids: settings.forced_eos_token_ids.clone(),
        exponential_decay_length_penalty: settings
            .exponential_decay_length_penalty
            .map(|(start, factor)| (start as usize, factor as f32)),
        remove_invalid_values: settings.remove_invalid_values,
        seed: overrides.seed,
        max_tokens,
        max_length,
        min_tokens: count(settings.min_new_tokens),
        min_length: count(min_length),
        max_time: settings.max_time,
        stop,
        ignore_eos: overrides.ignore_eos,
    };
    let unread = model.problems.iter().filter(|problem| !overrides.sets(&problem.key));
    let mut problems: Vec<String> = unread.map(|problem| problem.message.clone()).collect();
    problems.extend(params.named_problems().into_iter().map(|(name, problem)| match overrides.sets(name) {
        true => problem,
        false => format!("{problem} (it comes from the model's generation settings)"),
    }));
    if !problems.is_empty() {
        return Err(problems);
    }
    let mut warnings = model.warnings.clone();
    if !samples && overrides.temperature.is_none() && model.do_sample.is_none() {
        warnings.extend(idle_settings(model));
    }
    Ok(Resolved { params, warnings })
}

/// A warning that names the model's settings that would have an effect if it sampled.
fn idle_settings(model: &GenerationConfig) -> Option<String> {
    let settings = &model.settings;
    let differs = |value: Option<f64>, neutral: f64| value.is_some_and(|value| value != neutral);
    let names: Vec<&str> = [
        ("temperature", differs(model.temperature, 1.0)),
        // 50 is transformers' default, which its configs repeat.
        ("top_k", model.top_k.is_some_and(|top_k| top_k != 0 && top_k != 50)),
        ("top_p", differs(model.top_p, 1.0)),
        ("min_p", differs(settings.min_p, 0.0)),
        ("typical_p", differs(settings.typical_p, 1.0)),
        ("top_h", settings.top_h.is_some()),
        ("epsilon_cutoff", differs(settings.epsilon_cutoff, 0.0)),
        ("eta_cutoff", differs(settings.eta_cutoff, 0.0)),
    ]
    .into_iter()
    .filter_map(|(name, set)| set.then_some(name))
    .collect();
    if names.is_empty() {
        return None;
    }
    Some(format!(
        "the model's generation settings have `{}` without `do_sample: true`: as in transformers, the likeliest token is \
         taken each time; give a temperature to sample",
        names.join("`, `")
    ))
}
