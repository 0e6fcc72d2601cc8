//! KTO (Ethayarajh et al., 2024): unpaired preferences, each a completion with a label, measured against the KL
//! divergence from the reference. Metrics are those that TRL's `KTOTrainer` logs.
//!
//! The second completion of an example belongs to another prompt and serves the estimate of the divergence
//! (`kl`), which takes no part in the derivative and is never below 0. Each pass makes its own estimate from
//! its own examples, as TRL does, so here alone a step's sums depend a little on how it is divided into
//! passes.

use std::ops::Range;

use super::completions::{CompletionPair, CompletionRows, PromptTokens, collate_completions};
use super::pair_losses::{CompletionLogps, sigmoid};
use crate::config::DpoConfig;
use crate::objective::{Loss, LossKind, Metric, MicroBatch, Objective};

/// Settings of the loss of KTO.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KtoWeights {
    /// Strength of the pull towards the reference.
    pub beta: f64,
    /// Weight of desirable completions.
    pub desirable: f64,
    /// Weight of undesirable ones.
    pub undesirable: f64,
}

/// The loss of a completion and its derivative by each of its log-probabilities: of a desirable completion
/// `w (1 - sigmoid(beta (ratio - kl)))`, of an undesirable one `w (1 - sigmoid(beta (kl - ratio)))`.
pub fn kto_loss(
    completion: CompletionLogps<'_>,
    desirable: bool,
    kl: f64,
    weights: &KtoWeights,
) -> (f64, f64) {
    let (weight, sign) = if desirable { (weights.desirable, 1.0) } else { (weights.undesirable, -1.0) };
    let value = sigmoid(-sign * weights.beta * (completion.ratio() - kl));
    (weight * value, -sign * weights.beta * weight * value * (1.0 - value))
}

/// Estimate of the divergence from the reference: the mean log-ratio of completions of other prompts, at least 0.
pub fn kto_kl<'a>(mismatched: impl Iterator<Item = CompletionLogps<'a>>) -> f64 {
    let (sum, count) =
        mismatched.fold((0.0, 0.0), |(sum, count), completion| (sum + completion.ratio(), count + 1.0));
    if count > 0.0 { (sum / count).max(0.0) } else { 0.0 }
}

/// A completion with its label, and a completion of another prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct LabeledCompletion {
    /// The prompt, the completion, and the completion of another prompt.
    pub pair: CompletionPair,
    /// The label: whether the completion is desirable.
    pub desirable: bool,
}

/// The objective on unpaired preferences.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct UnpairedPreference(pub KtoWeights);

/// Per-pass data of [`UnpairedPreference`], one per example.
#[derive(Clone, Debug)]
pub struct UnpairedSide {
    rows: CompletionRows,
    reference: Vec<f32>,
    desirable: bool,
}

impl UnpairedPreference {
    /// The objective that `training.dpo` describes.
    pub fn of(config: &DpoConfig) -> Self {
        Self(KtoWeights {
            beta: config.beta,
            desirable: config.desirable_weight,
            undesirable: config.undesirable_weight,
        })
    }
}

impl UnpairedSide {
    /// Log-probabilities of the example's own completion, and of the other prompt's.
    fn completions<'a>(&'a self, logp: &'a [f32]) -> [CompletionLogps<'a>; 2] {
        let [own, other] = &self.rows.completions;
        let (first, second) = self.reference.split_at(own.len().min(self.reference.len()));
        let of = |rows: &Range<usize>| logp.get(rows.clone()).unwrap_or_default();
        [
            CompletionLogps { logp: of(own), reference: first },
            CompletionLogps { logp: of(other), reference: second },
        ]
    }
}

impl Objective for UnpairedPreference {
    type Example = LabeledCompletion;
    type Side = Vec<UnpairedSide>;

    const KIND: LossKind = LossKind::PerExample;

    fn collate(
        &self,
        examples: &[&LabeledCompletion],
        _step: &[&LabeledCompletion],
    ) -> MicroBatch<Vec<UnpairedSide>> {
        let laid_out = collate_completions(examples.iter().map(|example| &example.pair), PromptTokens::Given);
        let side = examples.iter().zip(laid_out.predicted).map(|(example, rows)| UnpairedSide {
            rows,
            reference: example.pair.reference.clone(),
            desirable: example.desirable,
        });
        let side = side.collect();
        MicroBatch { batch: laid_out.batch, targets: laid_out.targets, rows: laid_out.rows, side }
    }

    fn loss(&self, micro: &MicroBatch<Vec<UnpairedSide>>, logp: &[f32]) -> Loss {
        let mut loss = Loss { d_logp: vec![0.0; micro.batch.len()], ..Loss::default() };
        let kl = kto_kl(micro.side.iter().map(|side| side.completions(logp)[1]));
        for side in &micro.side {
            let [completion, _] = side.completions(logp);
            let (value, slope) = kto_loss(completion, side.desirable, kl, &self.0);
            loss.sum += value;
            loss.weight += 1.0;
            loss.d_logp[side.rows.completions[0].clone()].fill(slope as f32);
            // Every pass names all metrics, also those of weight 0: passes and ranks add them up by name.
            let (desirable, undesirable) = if side.desirable { (1.0, 0.0) } else { (0.0, 1.0) };
            let (reward, logps) = (self.0.beta * completion.ratio(), completion.sum());
            loss.metrics.extend([
                Metric { name: "rewards/chosen", sum: desirable * reward, weight: desirable },
                Metric { name: "rewards/rejected", sum: undesirable * reward, weight: undesirable },
                Metric { name: "logps/chosen", sum: desirable * logps, weight: desirable },
                Metric { name: "logps/rejected", sum: undesirable * logps, weight: undesirable },
                Metric { name: "kl", sum: kl, weight: 1.0 },
            ]);
        }
        loss
    }

    fn is_divisible(&self) -> bool {
        false
    }

    fn derive(&self, means: &mut Vec<(&'static str, f64)>) {
        let find = |name| means.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        if let (Some(chosen), Some(rejected)) = (find("rewards/chosen"), find("rewards/rejected")) {
            means.push(("rewards/margins", chosen - rejected));
        }
    }

    fn source(&self, example: &LabeledCompletion) -> String {
        example.pair.source.to_string()
    }

    fn fingerprint(&self, example: &LabeledCompletion, add: &mut dyn FnMut(&[u8])) {
        example.pair.fingerprint(add);
        add(&[u8::from(example.desirable)]);
    }
}
