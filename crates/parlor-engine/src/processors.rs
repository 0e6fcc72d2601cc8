//! Logits processors, which apply to greedy decoding and to sampling: penalties, biases, bans and forced tokens.
//!
//! Source and order: transformers' `_get_logits_processor`; repetition penalty by Keskar et al. 2019. The
//! frequency and presence penalties of OpenAI's API come after the repetition penalties.

use std::collections::HashMap;

use crate::params::SamplingParams;

/// Where a completion may end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndConditions {
    /// Tokens that end it.
    pub eos_token_ids: Vec<u32>,
    /// Maximum length in tokens, prompt included.
    pub length: usize,
}

/// The tokens so far.
#[derive(Clone, Debug)]
pub(crate) struct History {
    sequence: Vec<u32>,
    prompt: usize,
    /// How often each token was generated; zero for tokens of the prompt alone.
    seen: HashMap<u32, u32>,
}

impl History {
    pub(crate) fn new(prompt: &[u32]) -> Self {
        let seen = prompt.iter().map(|&id| (id, 0)).collect();
        Self { sequence: prompt.to_vec(), prompt: prompt.len(), seen }
    }

    pub(crate) fn push(&mut self, id: u32) {
        self.sequence.push(id);
        *self.seen.entry(id).or_insert(0) += 1;
    }

    fn prompt(&self) -> &[u32] {
        &self.sequence[..self.prompt]
    }

    fn generated(&self) -> usize {
        self.sequence.len() - self.prompt
    }
}

/// Applies everything that `params` asks for to the logits `[vocab]` of the next token.
pub(crate) fn process(params: &SamplingParams, ends: &EndConditions, history: &History, logits: &mut [f32]) {
    for (tokens, bias) in &params.sequence_bias {
        add_bias(tokens, *bias, history, logits);
    }
    if params.encoder_repetition_penalty != 1.0 {
        let penalty = 1.0 / params.encoder_repetition_penalty;
        let mut once: Vec<u32> = history.prompt().to_vec();
        once.sort_unstable();
        once.dedup();
        once.into_iter().for_each(|id| penalise(logits, id, penalty));
    }
    if params.repetition_penalty != 1.0 {
        history.seen.keys().for_each(|&id| penalise(logits, id, params.repetition_penalty));
    }
    subtract_penalties(params, history, logits);
    ban_repeated(params.no_repeat_ngram_size, &history.sequence, history, logits);
    ban_repeated(params.encoder_no_repeat_ngram_size, history.prompt(), history, logits);
    for tokens in &params.bad_words_ids {
        let is_end = matches!(tokens.as_slice(), [only] if ends.eos_token_ids.contains(only));
        if !is_end {
            add_bias(tokens, f32::NEG_INFINITY, history, logits);
        }
    }
    if history.generated() < params.min_tokens || history.sequence.len() < params.min_length {
        ban(logits, &ends.eos_token_ids);
    }
    if let Some(bos) = params.forced_bos_token_id
        && history.sequence.len() == 1
    {
        force(logits, &[bos]);
    }
    if !params.forced_eos_token_ids.is_empty() && history.sequence.len() + 1 == ends.length {
        force(logits, &params.forced_eos_token_ids);
    }
    if params.remove_invalid_values {
        remove_invalid(logits);
    }
    if let Some((start, factor)) = params.exponential_decay_length_penalty {
        favour_end(logits, &ends.eos_token_ids, history.generated(), start, factor);
    }
    ban(logits, &params.suppress_tokens);
    let begin = usize::from(history.prompt == 1 && params.forced_bos_token_id.is_some());
    if history.generated() == begin {
        ban(logits, &params.begin_suppress_tokens);
    }
}

fn change(logits: &mut [f32], id: u32, change: impl FnOnce(f32) -> f32) {
    if let Some(logit) = logits.get_mut(id as usize) {
        *logit = change(*logit);
    }
}

fn ban(logits: &mut [f32], ids: &[u32]) {
    ids.iter().for_each(|&id| change(logits, id, |_| f32::NEG_INFINITY));
}

fn force(logits: &mut [f32], ids: &[u32]) {
    logits.fill(f32::NEG_INFINITY);
    ids.iter().for_each(|&id| change(logits, id, |_| 0.0));
}

fn penalise(logits: &mut [f32], id: u32, penalty: f32) {
    change(logits, id, |logit| if logit < 0.0 { logit * penalty } else { logit / penalty });
}

fn subtract_penalties(params: &SamplingParams, history: &History, logits: &mut [f32]) {
    let SamplingParams { frequency_penalty, presence_penalty, .. } = *params;
    if frequency_penalty == 0.0 && presence_penalty == 0.0 {
        return;
    }
    for (&id, &times) in history.seen.iter().filter(|(_, times)| **times > 0) {
        change(logits, id, |logit| logit - frequency_penalty * times as f32 - presence_penalty);
    }
}

/// Adds `bias` to the last of `tokens` when the sequence ends with the others.
fn add_bias(tokens: &[u32], bias: f32, history: &History, logits: &mut [f32]) {
    if let Some((last, before)) = tokens.split_last()
        && history.sequence.ends_with(before)
    {
        change(logits, *last, |logit| logit + bias);
    }
}

/// Bans the tokens that would repeat an n-gram of `text`.
fn ban_repeated(size: usize, text: &[u32], history: &History, logits: &mut [f32]) {
    let Some(before) = size.checked_sub(1).and_then(|len| history.sequence.len().checked_sub(len)) else {
        return;
    };
    let start = &history.sequence[before..];
    for ngram in text.windows(size) {
        if let Some((last, head)) = ngram.split_last()
            && head == start
        {
            change(logits, *last, |_| f32::NEG_INFINITY);
        }
    }
}

fn remove_invalid(logits: &mut [f32]) {
    for logit in logits {
        *logit = if logit.is_nan() { 0.0 } else { logit.clamp(f32::MIN, f32::MAX) };
    }
}

/// Raises the logits of `ends` by their magnitude times `factor^(tokens past start) - 1`.
fn favour_end(logits: &mut [f32], ends: &[u32], generated: usize, start: usize, factor: f32) {
    if generated <= start {
        return;
    }
    let past = i32::try_from(generated - start).unwrap_or(i32::MAX);
    let more = (f64::from(factor).powi(past) - 1.0) as f32;
    for &id in ends {
        change(logits, id, |logit| if logit.is_finite() { logit + logit.abs() * more } else { logit });
    }
}
