//! Candidates for the next token, and the filters (warpers) that reduce them.
//!
//! The order is that of transformers' warpers: temperature, top-h, top-k, top-p, min-p, typical, epsilon,
//! eta. Sources: Holtzman et al. 2020 (top-p), Meister et al. 2022 (typical), Nguyen et al. 2024 (min-p),
//! Hewitt et al. 2022 (epsilon, eta), Potraghloo et al. 2025 (top-h).

use std::cmp::Ordering;

use crate::params::SamplingParams;

/// Number of tokens that top-h considers.
const TOP_H_CANDIDATES: usize = 100;

/// A token that may come next.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate {
    pub(crate) id: u32,
    logit: f32,
}

/// Candidates for the next token. Their logits are not divided by the temperature, since a tiny one would
/// make them infinite.
#[derive(Clone, Debug)]
pub(crate) struct Candidates {
    list: Vec<Candidate>,
    temperature: f64,
}

impl Candidates {
    /// All tokens that `logits` allows.
    pub(crate) fn new(logits: &[f32], temperature: f32) -> Self {
        let list = logits
            .iter()
            .enumerate()
            .filter(|(_, logit)| **logit > f32::NEG_INFINITY)
            .map(|(id, &logit)| Candidate { id: id as u32, logit })
            .collect();
        Self { list, temperature: f64::from(temperature) }
    }

    /// Applies every filter that `params` asks for.
    pub(crate) fn filter(&mut self, params: &SamplingParams) {
        if self.list.is_empty() {
            return;
        }
        if let Some(top_h) = params.top_h {
            self.keep_top_h(top_h);
        }
        if params.top_k > 0 && params.top_k < self.list.len() {
            self.keep_top_k(params.top_k);
        }
        if params.top_p < 1.0 {
            self.keep_top_p(params.top_p);
        }
        if params.min_p > 0.0 {
            let least = f64::from(params.min_p).ln();
            self.keep(|relative| relative >= least);
        }
        if params.typical_p < 1.0 {
            self.keep_typical(params.typical_p);
        }
        if params.epsilon_cutoff > 0.0 && params.epsilon_cutoff < 1.0 {
            self.keep_likely(f64::from(params.epsilon_cutoff));
        }
        if params.eta_cutoff > 0.0 && params.eta_cutoff < 1.0 {
            let eta = f64::from(params.eta_cutoff);
            let entropy: f64 = self.probabilities().iter().map(|&p| surprise_term(p)).sum();
            self.keep_likely(eta.min(eta.sqrt() * (-entropy).exp()));
        }
    }

    /// Ids and probabilities, in the order of the ids.
    pub(crate) fn distribution(mut self) -> Vec<(u32, f64)> {
        self.list.sort_unstable_by_key(|candidate| candidate.id);
        let probabilities = self.probabilities();
        self.list.iter().map(|candidate| candidate.id).zip(probabilities).collect()
    }

    /// Draws a candidate by `uniform`, in `[0, 1)`. In the order of the ids, so that the result does not
    /// depend on how the candidates were selected.
    pub(crate) fn draw(self, uniform: f64) -> Option<u32> {
        let mut left = uniform;
        let mut last = None;
        for (id, probability) in self.distribution() {
            if probability > 0.0 {
                last = Some(id);
                left -= probability;
                if left < 0.0 {
                    break;
                }
            }
        }
        // Rounding may leave a remainder after the last candidate.
        last
    }

    fn most(&self) -> f32 {
        self.list.iter().fold(f32::NEG_INFINITY, |most, candidate| most.max(candidate.logit))
    }

    /// Log of the ratio of a candidate's probability to that of the most likely one, whose logit is `most`.
    fn relative(&self, candidate: &Candidate, most: f32) -> f64 {
        // Also correct when both are infinite.
        if candidate.logit == most {
            return 0.0;
        }
        (f64::from(candidate.logit) - f64::from(most)) / self.temperature
    }

    /// Softmax, in the order of the list.
    fn probabilities(&self) -> Vec<f64> {
        let most = self.most();
        let mut weights: Vec<f64> = self.list.iter().map(|c| self.relative(c, most).exp()).collect();
        let sum: f64 = weights.iter().sum();
        weights.iter_mut().for_each(|weight| *weight /= sum);
        weights
    }

    /// Keeps those whose relative log-probability passes.
    fn keep(&mut self, passes: impl Fn(f64) -> bool) {
        let most = self.most();
        let mut list = std::mem::take(&mut self.list);
        list.retain(|candidate| passes(self.relative(candidate, most)));
        self.list = list;
    }

    fn keep_top_k(&mut self, top_k: usize) {
        self.list.select_nth_unstable_by(top_k - 1, likelier_first);
        self.list.truncate(top_k);
    }

    /// Keeps the likeliest candidates whose probabilities reach `top_p` together, at least one.
    fn keep_top_p(&mut self, top_p: f32) {
        let most = self.most();
        let weight = |this: &Self, index: usize| this.relative(&this.list[index], most).exp();
        let total: f64 = (0..self.list.len()).map(|index| weight(self, index)).sum();
        let wanted = f64::from(top_p) * total;
        // The nucleus is small as a rule: sort a growing head instead of the whole vocabulary.
        let mut head = 256;
        loop {
            let len = head.min(self.list.len());
            if len < self.list.len() {
                self.list.select_nth_unstable_by(len - 1, likelier_first);
            }
            self.list[..len].sort_unstable_by(likelier_first);
            let mut reached = 0.0;
            for index in 0..len {
                reached += weight(self, index);
                if reached >= wanted || index + 1 == self.list.len() {
                    self.list.truncate(index + 1);
                    return;
                }
            }
            if len == self.list.len() {
                return;
            }
            head *= 8;
        }
    }

    /// Keeps the candidates whose surprise is nearest the entropy, up to probability `typical_p`, at least one.
    fn keep_typical(&mut self, typical_p: f32) {
        let probabilities = self.probabilities();
        let entropy: f64 = probabilities.iter().map(|&p| surprise_term(p)).sum();
        let mut order: Vec<(f64, f64, Candidate)> =
            self.list.iter().zip(&probabilities).map(|(c, &p)| ((-p.ln() - entropy).abs(), p, *c)).collect();
        order.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.2.id.cmp(&b.2.id)));
        let mut reached = 0.0;
        self.list.clear();
        for (_, probability, candidate) in order {
            self.list.push(candidate);
            reached += probability;
            if reached >= f64::from(typical_p) {
                break;
            }
        }
    }

    /// Keeps, of the hundred likeliest, those whose terms of the entropy reach `top_h` of it at most, at
    /// least one.
    fn keep_top_h(&mut self, top_h: f32) {
        if self.list.len() > TOP_H_CANDIDATES {
            self.keep_top_k(TOP_H_CANDIDATES);
        }
        self.list.sort_unstable_by(likelier_first);
        let terms: Vec<f64> = self.probabilities().into_iter().map(surprise_term).collect();
        let most = f64::from(top_h) * terms.iter().sum::<f64>();
        let mut reached = 0.0;
        let kept = terms.iter().take_while(|&&term| {
            reached += term;
            reached <= most
        });
        let kept = kept.count().max(1);
        self.list.truncate(kept);
    }

    /// Keeps those at least this likely, and the likeliest.
    fn keep_likely(&mut self, least: f64) {
        let most = self.most();
        let mut probabilities = self.probabilities().into_iter();
        self.list.retain(|candidate| {
            let probability = probabilities.next().unwrap_or(0.0);
            probability >= least || candidate.logit == most
        });
    }
}

/// A token's part of the entropy.
fn surprise_term(probability: f64) -> f64 {
    if probability > 0.0 { -probability * probability.ln() } else { 0.0 }
}

fn likelier_first(a: &Candidate, b: &Candidate) -> Ordering {
    b.logit.total_cmp(&a.logit).then(a.id.cmp(&b.id))
}
