//! What a request may ask of the sampler, and the choice of the next token.
//!
//! Names as vLLM's `SamplingParams` and OpenAI's API; order of operations as HF's logits processors: penalties,
//! temperature, top-k, top-p, min-p, typical. Sources: Holtzman et al. 2020 (top-p), Meister et al. 2022
//! (typical), Nguyen et al. 2024 (min-p), Keskar et al. 2019 (repetition penalty).

use std::collections::HashMap;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

/// How tokens are chosen and when to stop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SamplingParams {
    /// Divides the logits; 0 takes the likeliest token (greedy).
    pub temperature: f32,
    /// Only the `top_k` likeliest tokens; 0 is all.
    pub top_k: usize,
    /// Only the likeliest tokens whose probabilities reach `top_p` together; 1 is all.
    pub top_p: f32,
    /// Only tokens at least `min_p` times as likely as the likeliest; 0 is all.
    pub min_p: f32,
    /// Only tokens whose surprise is nearest the expected one, up to this probability; 1 is all.
    pub typical_p: f32,
    /// Divides positive logits (multiplies negative ones) of tokens in the prompt or the answer; 1 is off.
    pub repetition_penalty: f32,
    /// Subtracted from a token's logit per time it was generated.
    pub frequency_penalty: f32,
    /// Subtracted from a token's logit once it was generated.
    pub presence_penalty: f32,
    /// Makes the choice repeatable; without it each request draws a new one.
    pub seed: Option<u64>,
    /// At most this many new tokens.
    pub max_tokens: usize,
    /// Texts that end the answer; they are not part of it.
    pub stop: Vec<String>,
    /// Go on after an end-of-sequence token.
    pub ignore_eos: bool,
}

impl Default for SamplingParams {
    fn default() -> Self {
        Self {
            temperature: 0.7,
            top_k: 50,
            top_p: 0.9,
            min_p: 0.0,
            typical_p: 1.0,
            repetition_penalty: 1.1,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            seed: None,
            max_tokens: 512,
            stop: Vec::new(),
            ignore_eos: false,
        }
    }
}

impl SamplingParams {
    /// Greedy decoding without penalties.
    pub fn greedy(max_tokens: usize) -> Self {
        Self {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            repetition_penalty: 1.0,
            max_tokens,
            ..Self::default()
        }
    }

    /// What is wrong with the values, one sentence each; empty when nothing is.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut check = |name: &str, value: f32, ok: bool, range: &str| {
            if !ok {
                problems.push(format!("`{name}` is {value}; it must be {range}"));
            }
        };
        let within = |x: f32, low: f32, high: f32| x >= low && x <= high;
        check(
            "temperature",
            self.temperature,
            within(self.temperature, 0.0, 100.0),
            "from 0 (greedy) to 100",
        );
        check("top_p", self.top_p, self.top_p > 0.0 && self.top_p <= 1.0, "above 0 and at most 1 (off)");
        check("min_p", self.min_p, within(self.min_p, 0.0, 1.0), "from 0 (off) to 1");
        let typical = self.typical_p > 0.0 && self.typical_p <= 1.0;
        check("typical_p", self.typical_p, typical, "above 0 and at most 1 (off)");
        let repetition = self.repetition_penalty > 0.0 && self.repetition_penalty.is_finite();
        check("repetition_penalty", self.repetition_penalty, repetition, "above 0 (1 is off)");
        let frequency = within(self.frequency_penalty, -2.0, 2.0);
        check("frequency_penalty", self.frequency_penalty, frequency, "from -2 to 2 (0 is off)");
        let presence = within(self.presence_penalty, -2.0, 2.0);
        check("presence_penalty", self.presence_penalty, presence, "from -2 to 2 (0 is off)");
        if self.stop.iter().any(String::is_empty) {
            problems.push("`stop` holds an empty text, which would end every answer at once".to_owned());
        }
        problems
    }
}

/// The state of one answer's sampling: which tokens were seen, and the random stream.
#[derive(Clone, Debug)]
pub struct Sampler {
    params: SamplingParams,
    /// Times each token was generated; zero for one that stands in the prompt only.
    seen: HashMap<u32, u32>,
    rng: ChaCha8Rng,
}

#[derive(Clone, Copy, Debug)]
struct Candidate {
    id: u32,
    logit: f32,
}

impl Sampler {
    /// A sampler for an answer to `prompt`; `seed` serves when the parameters name none.
    pub fn new(params: SamplingParams, prompt: &[u32], seed: u64) -> Self {
        let rng = ChaCha8Rng::seed_from_u64(params.seed.unwrap_or(seed));
        Self { seen: prompt.iter().map(|&id| (id, 0)).collect(), params, rng }
    }

    /// Chooses the next token from its logits `[vocab]`, which it changes; `None` when no logit is a number.
    pub fn next(&mut self, logits: &mut [f32]) -> Option<u32> {
        self.penalise(logits);
        let id = if self.params.temperature == 0.0 { likeliest(logits) } else { self.draw(logits) }?;
        *self.seen.entry(id).or_insert(0) += 1;
        Some(id)
    }

    fn penalise(&self, logits: &mut [f32]) {
        let SamplingParams { repetition_penalty, frequency_penalty, presence_penalty, .. } = self.params;
        if repetition_penalty == 1.0 && frequency_penalty == 0.0 && presence_penalty == 0.0 {
            return;
        }
        for (&id, &times) in &self.seen {
            let Some(logit) = logits.get_mut(id as usize) else { continue };
            *logit = if *logit > 0.0 { *logit / repetition_penalty } else { *logit * repetition_penalty };
            if times > 0 {
                *logit -= frequency_penalty * times as f32 + presence_penalty;
            }
        }
    }

    fn draw(&mut self, logits: &[f32]) -> Option<u32> {
        let mut candidates: Vec<Candidate> = logits
            .iter()
            .enumerate()
            .filter(|(_, logit)| **logit > f32::NEG_INFINITY)
            .map(|(id, &logit)| Candidate { id: id as u32, logit: logit / self.params.temperature })
            .collect();
        let SamplingParams { top_k, top_p, min_p, typical_p, .. } = self.params;
        if top_k > 0 && top_k < candidates.len() {
            candidates.select_nth_unstable_by(top_k - 1, likelier_first);
            candidates.truncate(top_k);
        }
        if top_p < 1.0 {
            keep_top_p(&mut candidates, top_p);
        }
        if min_p > 0.0 {
            let floor = max_logit(&candidates) + min_p.ln();
            candidates.retain(|candidate| candidate.logit >= floor);
        }
        if typical_p < 1.0 {
            keep_typical(&mut candidates, typical_p);
        }
        // Id order, so that the draw does not depend on how the candidates were selected.
        candidates.sort_unstable_by_key(|candidate| candidate.id);
        let weights = probabilities(&candidates);
        let mut left = (self.rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        for (candidate, weight) in candidates.iter().zip(&weights) {
            left -= weight;
            if left < 0.0 {
                return Some(candidate.id);
            }
        }
        // Rounding may leave a sliver above zero after the last.
        candidates.last().map(|candidate| candidate.id)
    }
}

/// The id of the largest logit, the lowest id on a tie; `None` when none is a number.
pub fn likeliest(logits: &[f32]) -> Option<u32> {
    let mut best: Option<(usize, f32)> = None;
    for (id, &logit) in logits.iter().enumerate() {
        if !logit.is_nan() && best.is_none_or(|(_, most)| logit > most) {
            best = Some((id, logit));
        }
    }
    best.map(|(id, _)| id as u32)
}

fn likelier_first(a: &Candidate, b: &Candidate) -> std::cmp::Ordering {
    b.logit.total_cmp(&a.logit).then(a.id.cmp(&b.id))
}

fn max_logit(candidates: &[Candidate]) -> f32 {
    candidates.iter().fold(f32::NEG_INFINITY, |max, candidate| max.max(candidate.logit))
}

/// Softmax over the candidates, in f64.
fn probabilities(candidates: &[Candidate]) -> Vec<f64> {
    let max = f64::from(max_logit(candidates));
    let mut weights: Vec<f64> = candidates.iter().map(|c| (f64::from(c.logit) - max).exp()).collect();
    let sum: f64 = weights.iter().sum();
    weights.iter_mut().for_each(|weight| *weight /= sum);
    weights
}

/// Keeps the likeliest candidates whose probabilities reach `top_p` together, at least one.
fn keep_top_p(candidates: &mut Vec<Candidate>, top_p: f32) {
    let max = f64::from(max_logit(candidates));
    let weight = |c: &Candidate| (f64::from(c.logit) - max).exp();
    let wanted = f64::from(top_p) * candidates.iter().map(weight).sum::<f64>();
    // The nucleus is small as a rule: sort a growing head instead of the whole vocabulary.
    let mut head = 256;
    loop {
        let len = head.min(candidates.len());
        if len < candidates.len() {
            candidates.select_nth_unstable_by(len - 1, likelier_first);
        }
        candidates[..len].sort_unstable_by(likelier_first);
        let mut reached = 0.0;
        for index in 0..len {
            reached += weight(&candidates[index]);
            if reached >= wanted || index + 1 == candidates.len() {
                candidates.truncate(index + 1);
                return;
            }
        }
        if len == candidates.len() {
            return;
        }
        head *= 8;
    }
}

/// Keeps the candidates whose surprise is nearest the entropy, up to probability `typical_p`, at least one.
fn keep_typical(candidates: &mut Vec<Candidate>, typical_p: f32) {
    let weights = probabilities(candidates);
    let entropy: f64 = weights.iter().filter(|&&p| p > 0.0).map(|p| -p * p.ln()).sum();
    let mut order: Vec<(f64, f64, Candidate)> =
        candidates.iter().zip(&weights).map(|(c, &p)| ((-p.ln() - entropy).abs(), p, *c)).collect();
    order.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.2.id.cmp(&b.2.id)));
    let mut reached = 0.0;
    candidates.clear();
    for (_, p, candidate) in order {
        candidates.push(candidate);
        reached += p;
        if reached >= f64::from(typical_p) {
            break;
        }
    }
}
