//! Single completions with a verdict: the loss of KTO, and the metrics that TRL logs.
//!
//! The second completion of an example belongs to another prompt and serves the estimate of the divergence (`kl`). Each pass
//! makes its own estimate from its own examples, as TRL does, so here, unlike elsewhere, a step's sums depend a little
//! on how it is divided into passes.

use super::kto::{KtoWeights, kto_kl, kto_loss};
use super::pair::CompletionLogps;
use super::prompted::{CompletionPair, CompletionRows, PromptTokens, collate_completions};
use crate::objective::{Loss, LossKind, Metric, MicroBatch, Objective};

/// A completion with its verdict, and a completion to another prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct LabeledCompletion {
    /// The prompt, the completion, and the completion to another prompt.
    pub pair: CompletionPair,
    /// Whether the completion is wanted.
    pub desirable: bool,
}

/// The objective.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct UnpairedPreference(pub KtoWeights);

/// What the loss of a pass needs besides, per example.
#[derive(Clone, Debug)]
pub struct UnpairedSide {
    rows: CompletionRows,
    reference: Vec<f32>,
    desirable: bool,
}

impl UnpairedSide {
    fn completions<'a>(&'a self, logp: &'a [f32]) -> [CompletionLogps<'a>; 2] {
        let [own, other] = &self.rows.completions;
        let (first, second) = self.reference.split_at(own.len().min(self.reference.len()));
        let of = |rows: &std::ops::Range<usize>| logp.get(rows.clone()).unwrap_or_default();
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
            // All are named in every pass, whatever completions it holds: passes and ranks add up what they name.
            let (wanted, unwanted) = if side.desirable { (1.0, 0.0) } else { (0.0, 1.0) };
            let (reward, logps) = (self.0.beta * completion.ratio(), completion.sum());
            loss.metrics.extend([
                Metric { name: "rewards/chosen", sum: wanted * reward, weight: wanted },
                Metric { name: "rewards/rejected", sum: unwanted * reward, weight: unwanted },
                Metric { name: "logps/chosen", sum: wanted * logps, weight: wanted },
                Metric { name: "logps/rejected", sum: unwanted * logps, weight: unwanted },
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
