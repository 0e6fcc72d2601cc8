//! Samples the next token: processes the logits, then takes the most likely token or draws one from the remaining
//! candidates.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::candidates::Candidates;
use crate::params::SamplingParams;
use crate::processors::{EndConditions, History, process};

/// Why no token can be sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SamplingError {
    /// No logit is a number.
    NotFinite,
    /// The parameters forbid every token.
    Forbidden,
}

/// The sampling state of one completion: the tokens so far, and the random numbers.
#[derive(Clone, Debug)]
pub struct Sampler {
    params: SamplingParams,
    ends: EndConditions,
    history: History,
    rng: ChaCha8Rng,
}

impl Sampler {
    /// A sampler for a completion of `prompt`. `seed` is used when the parameters have none.
    pub fn new(params: SamplingParams, ends: EndConditions, prompt: &[u32], seed: u64) -> Self {
        let rng = ChaCha8Rng::seed_from_u64(params.seed.unwrap_or(seed));
        Self { params, ends, history: History::new(prompt), rng }
    }

    /// Samples the next token from its logits `[vocab]`, which it modifies.
    ///
    /// # Errors
    /// [`SamplingError`] when no token can be sampled.
    pub fn next(&mut self, logits: &mut [f32]) -> Result<u32, SamplingError> {
        let possible = |logits: &[f32]| logits.iter().any(|&logit| logit > f32::NEG_INFINITY);
        if !possible(logits) && !self.params.remove_invalid_values {
            return Err(SamplingError::NotFinite);
        }
        process(&self.params, &self.ends, &self.history, logits);
        if !possible(logits) {
            return Err(SamplingError::Forbidden);
        }
        let id = if self.params.temperature == 0.0 { argmax(logits) } else { self.draw(logits) };
        let id = id.ok_or(SamplingError::NotFinite)?;
        self.history.push(id);
        Ok(id)
    }

    /// The candidates for the next token in the order of their ids, with their probabilities; modifies the
    /// logits. Empty when no token can be sampled. A temperature of 0 (greedy) counts as 1.
    pub fn distribution(&self, logits: &mut [f32]) -> Vec<(u32, f64)> {
        process(&self.params, &self.ends, &self.history, logits);
        let temperature = if self.params.temperature == 0.0 { 1.0 } else { self.params.temperature };
        let mut candidates = Candidates::new(logits, temperature);
        candidates.filter(&self.params);
        candidates.distribution()
    }

    fn draw(&mut self, logits: &[f32]) -> Option<u32> {
        let mut candidates = Candidates::new(logits, self.params.temperature);
        candidates.filter(&self.params);
        let uniform = (self.rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        candidates.draw(uniform)
    }
}

/// The id of the largest logit, the lowest id on a tie; `None` when none is a number.
pub fn argmax(logits: &[f32]) -> Option<u32> {
    let mut best: Option<(usize, f32)> = None;
    for (id, &logit) in logits.iter().enumerate() {
        if !logit.is_nan() && best.is_none_or(|(_, most)| logit > most) {
            best = Some((id, logit));
        }
    }
    best.map(|(id, _)| id as u32)
}
