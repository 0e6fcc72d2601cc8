//! The sampling parameters of a request.
//!
//! Names as transformers' `GenerationConfig`, vLLM's `SamplingParams` and OpenAI's API. What each does is in
//! `processors.rs` and `candidates.rs`.

use serde::{Deserialize, Serialize};

/// How tokens are sampled and when a completion ends.
///
/// The defaults are neutral: they sample from the model's own distribution. In force is, for each parameter,
/// the first of: the request (a flag), the user's configuration (`serving.sampling_defaults`), the model's
/// `generation_config.json`, the neutral value. [`crate::resolve`] has the rules.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SamplingParams {
    /// Divides the logits; 0 takes the most likely token (greedy).
    pub temperature: f32,
    /// Only the `top_k` most likely tokens; 0 is all.
    pub top_k: usize,
    /// Only the most likely tokens whose probabilities add up to `top_p`; 1 is all, 0 the most likely alone.
    pub top_p: f32,
    /// Only tokens at least `min_p` times as likely as the most likely one; 0 is all.
    pub min_p: f32,
    /// Only tokens whose surprisal is closest to the entropy, up to this probability; 1 is all.
    pub typical_p: f32,
    /// Only the most likely tokens whose terms of the entropy stay within this share of it; absent is all.
    pub top_h: Option<f32>,
    /// Only tokens at least this likely; 0 is all.
    pub epsilon_cutoff: f32,
    /// Only tokens at least as likely as the smaller of this and `sqrt(eta) * exp(-entropy)`; 0 is all.
    pub eta_cutoff: f32,
    /// Divides positive logits (multiplies negative ones) of tokens in the prompt or the completion; 1 is off.
    pub repetition_penalty: f32,
    /// Multiplies positive logits (divides negative ones) of tokens in the prompt; 1 is off.
    pub encoder_repetition_penalty: f32,
    /// Subtracted from a token's logit per time it was generated.
    pub frequency_penalty: f32,
    /// Subtracted from a token's logit once it was generated.
    pub presence_penalty: f32,
    /// N-grams of this size occur once in prompt and completion together; 0 is off.
    pub no_repeat_ngram_size: usize,
    /// N-grams of this size in the prompt do not occur in the completion; 0 is off.
    pub encoder_no_repeat_ngram_size: usize,
    /// Sequences of tokens that are never generated. An end-of-sequence token alone is ignored.
    pub bad_words_ids: Vec<Vec<u32>>,
    /// Added to the logit of the last token of each sequence when the others precede it.
    pub sequence_bias: Vec<(Vec<u32>, f32)>,
    /// Tokens that are never generated.
    pub suppress_tokens: Vec<u32>,
    /// Tokens that no completion begins with.
    pub begin_suppress_tokens: Vec<u32>,
    /// Token that is forced after a prompt of one token.
    pub forced_bos_token_id: Option<u32>,
    /// Tokens of which one is forced at the maximum length. Empty: the completion is cut there.
    pub forced_eos_token_ids: Vec<u32>,
    /// From this many new tokens on, end-of-sequence tokens become more likely by this factor per token.
    pub exponential_decay_length_penalty: Option<(usize, f32)>,
    /// Replace logits that are not finite: NaN by 0, infinities by the largest numbers.
    pub remove_invalid_values: bool,
    /// Makes sampling reproducible. Absent: each request draws a new seed.
    pub seed: Option<u64>,
    /// At most this many new tokens.
    pub max_tokens: usize,
    /// At most this many tokens, prompt included; absent: as many as the model takes.
    pub max_length: Option<usize>,
    /// Minimum number of new tokens before an end-of-sequence token.
    pub min_tokens: usize,
    /// Minimum number of tokens, prompt included, before an end-of-sequence token.
    pub min_length: usize,
    /// Seconds after which the completion ends; absent is no limit.
    pub max_time: Option<f64>,
    /// Texts that end the completion and are not part of it. They may contain special tokens, which are
    /// matched by id.
    pub stop: Vec<String>,
    /// Continue after an end-of-sequence token.
    pub ignore_eos: bool,
}

impl Default for SamplingParams {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            typical_p: 1.0,
            top_h: None,
            epsilon_cutoff: 0.0,
            eta_cutoff: 0.0,
            repetition_penalty: 1.0,
            encoder_repetition_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            no_repeat_ngram_size: 0,
            encoder_no_repeat_ngram_size: 0,
            bad_words_ids: Vec::new(),
            sequence_bias: Vec::new(),
            suppress_tokens: Vec::new(),
            begin_suppress_tokens: Vec::new(),
            forced_bos_token_id: None,
            forced_eos_token_ids: Vec::new(),
            exponential_decay_length_penalty: None,
            remove_invalid_values: false,
            seed: None,
            max_tokens: 512,
            max_length: None,
            min_tokens: 0,
            min_length: 0,
            max_time: None,
            stop: Vec::new(),
            ignore_eos: false,
        }
    }
}

impl SamplingParams {
    /// Greedy decoding without penalties.
    pub fn greedy(max_tokens: usize) -> Self {
        Self { temperature: 0.0, max_tokens, ..Self::default() }
    }

    /// What is wrong with the values, one sentence each.
    pub fn problems(&self) -> Vec<String> {
        self.named_problems().into_iter().map(|(_, problem)| problem).collect()
    }

    /// The problems, each with the name of the parameter.
    pub(crate) fn named_problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        let mut check = |name: &'static str, value: f64, ok: bool, range: &str| {
            if !ok {
                problems.push((name, format!("`{name}` is {value}; it must be {range}")));
            }
        };
        let share = |x: f32| (0.0..=1.0).contains(&x);
        let mut numbers = |name, value: f32, ok: bool, range: &str| check(name, shown(value), ok, range);
        let temperature = self.temperature >= 0.0 && self.temperature.is_finite();
        numbers("temperature", self.temperature, temperature, "0 (greedy) or a positive number");
        numbers("top_p", self.top_p, share(self.top_p), "from 0 (the likeliest alone) to 1 (off)");
        numbers("min_p", self.min_p, share(self.min_p), "from 0 (off) to 1");
        let typical = self.typical_p > 0.0 && self.typical_p <= 1.0;
        numbers("typical_p", self.typical_p, typical, "above 0 and at most 1 (off)");
        if let Some(top_h) = self.top_h {
            numbers("top_h", top_h, top_h > 0.0 && top_h <= 1.0, "above 0 and at most 1");
        }
        numbers("epsilon_cutoff", self.epsilon_cutoff, share(self.epsilon_cutoff), "from 0 (off) to 1 (off)");
        numbers("eta_cutoff", self.eta_cutoff, share(self.eta_cutoff), "from 0 (off) to 1 (off)");
        let positive = |x: f32| x > 0.0 && x.is_finite();
        let repetition = positive(self.repetition_penalty);
        numbers("repetition_penalty", self.repetition_penalty, repetition, "above 0 (1 is off)");
        let encoder = self.encoder_repetition_penalty;
        numbers("encoder_repetition_penalty", encoder, positive(encoder), "above 0 (1 is off)");
        let penalty = |x: f32| (-2.0..=2.0).contains(&x);
        let frequency = penalty(self.frequency_penalty);
        numbers("frequency_penalty", self.frequency_penalty, frequency, "from -2 to 2 (0 is off)");
        let presence = penalty(self.presence_penalty);
        numbers("presence_penalty", self.presence_penalty, presence, "from -2 to 2 (0 is off)");
        if let Some((_, factor)) = self.exponential_decay_length_penalty {
            numbers("exponential_decay_length_penalty", factor, positive(factor), "above 0 (1 is off)");
        }
        if let Some(seconds) = self.max_time {
            check("max_time", seconds, seconds > 0.0, "above 0 seconds");
        }
        if self.stop.iter().any(String::is_empty) {
            let problem = "`stop` holds an empty text, which would end every answer at once".to_owned();
            problems.push(("stop", problem));
        }
        problems
    }
}

/// The shortest decimal that reads back as this float: 0.1, not 0.10000000149.
fn shown(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}
