//! Single answers with a verdict: the loss of KTO, and the metrics that TRL logs.
//!
//! The second answer of an example belongs to another prompt and serves the estimate of the divergence (`kl`). Each pass
//! makes its own estimate from its own examples, as TRL does, so here, unlike elsewhere, a step's sums depend a little
//! on how it is divided into passes.

use super::kto::{KtoWeights, kto_kl, kto_loss};
use super::pair::Answer;
use super::prompted::{PromptTokens, Prompted, PromptedRows, lay_out};
use crate::objective::{Loss, LossKind, Metric, MicroBatch, Objective};

/// An answer with its verdict, and an answer to another prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// The prompt, the answer, and the answer to another prompt.
    pub prompted: Prompted,
    /// Whether the answer is wanted.
    pub desirable: bool,
}

/// The objective.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Unpaired(pub KtoWeights);

/// What the loss of a pass needs besides, per example.
#[derive(Clone, Debug)]
pub struct JudgedSide {
    rows: PromptedRows,
    reference: Vec<f32>,
    desirable: bool,
}

impl JudgedSide {
    fn answers<'a>(&'a self, logp: &'a [f32]) -> [Answer<'a>; 2] {
        let [own, other] = &self.rows.answers;
        let (first, second) = self.reference.split_at(own.len().min(self.reference.len()));
        let of = |rows: &std::ops::Range<usize>| logp.get(rows.clone()).unwrap_or_default();
        [Answer { logp: of(own), reference: first }, Answer { logp: of(other), reference: second }]
    }
}

impl Objective for Unpaired {
    type Example = Judged;
    type Side = Vec<JudgedSide>;

    const KIND: LossKind = LossKind::PerExample;

    fn collate(&self, examples: &[&Judged], _step: &[&Judged]) -> MicroBatch<Vec<JudgedSide>> {
        let layout = lay_out(examples.iter().map(|example| &example.prompted), PromptTokens::Given);
        let side = examples.iter().zip(layout.predicted).map(|(example, rows)| JudgedSide {
            rows,
            reference: example.prompted.reference.clone(),
            desirable: example.desirable,
        });
        let side = side.collect();
        MicroBatch { batch: layout.batch, targets: layout.targets, rows: layout.rows, side }
    }

    fn loss(&self, micro: &MicroBatch<Vec<JudgedSide>>, logp: &[f32]) -> Loss {
        let mut loss = Loss { d_logp: vec![0.0; micro.batch.len()], ..Loss::default() };
        let kl = kto_kl(micro.side.iter().map(|side| side.answers(logp)[1]));
        for side in &micro.side {
            let [answer, _] = side.answers(logp);
            let (value, slope) = kto_loss(answer, side.desirable, kl, &self.0);
            loss.sum += value;
            loss.weight += 1.0;
            loss.d_logp[side.rows.answers[0].clone()].fill(slope as f32);
            // All are named in every pass, whatever answers it holds: passes and ranks add up what they name.
            let (wanted, unwanted) = if side.desirable { (1.0, 0.0) } else { (0.0, 1.0) };
            let (reward, logps) = (self.0.beta * answer.ratio(), answer.sum());
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

    fn source(&self, example: &Judged) -> String {
        example.prompted.source.to_string()
    }

    fn fingerprint(&self, example: &Judged, add: &mut dyn FnMut(&[u8])) {
        example.prompted.fingerprint(add);
        add(&[u8::from(example.desirable)]);
    }
}
