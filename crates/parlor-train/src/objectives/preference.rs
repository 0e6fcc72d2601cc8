//! Preference pairs: a loss on the log-probabilities of two completions to one prompt, and the metrics that TRL logs.
//!
//! Rewards are `beta` times a completion's log-ratio to the reference; of the losses without one, `beta` times its mean
//! log-probability, and `logps/*` are means then, as in TRL. `kl` is the estimator of Schulman (2020) called k2,
//! half the square of a token's log-ratio, averaged over the tokens of both completions: never negative, and 0 only where both
//! models agree. Since the completions are the data's and not the model's own, it says how far the model has moved on them;
//! k3, `exp(-d) - 1 + d`, would be ruled by the few tokens that the model has learned to avoid. Left out of TRL's metrics
//! are those that take more than the log-probabilities of targets: `logits/*`, `entropy`, `mean_token_accuracy`.

use std::ops::Range;

use super::hinge::hinge_loss;
use super::ipo::ipo_loss;
use super::orpo::orpo_loss;
use super::pair::{CompletionLogps, Pair, PairLoss};
use super::prompted::{CompletionPair, CompletionRows, PromptTokens, collate_completions};
use super::robust::robust_loss;
use super::sigmoid::sigmoid_loss;
use super::simpo::simpo_loss;
use crate::objective::{Loss, LossKind, Metric, MicroBatch, Objective};

/// Which loss, with the settings that it has besides `beta`.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(missing_docs, reason = "the settings are documented in each loss's file")]
pub enum PreferenceLoss {
    Sigmoid { label_smoothing: f64 },
    Robust { label_smoothing: f64 },
    Hinge,
    Ipo,
    Simpo { gamma: f64, label_smoothing: f64 },
    Orpo,
}

/// The objective.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Preference {
    /// The loss.
    pub loss: PreferenceLoss,
    /// Its strength; see the loss.
    pub beta: f64,
}

/// What the loss of a pass needs besides.
#[derive(Clone, Debug, Default)]
pub struct PreferenceSide {
    pairs: Vec<(CompletionRows, Vec<f32>)>,
    /// What a token of prompt and better completion weighs in a likelihood term: pairs over tokens, of the whole step.
    token_weight: f64,
}

impl PreferenceLoss {
    /// Whether it measures completions by mean log-probabilities, without a reference.
    fn is_of_means(self) -> bool {
        matches!(self, Self::Simpo { .. } | Self::Orpo)
    }
}

impl Preference {
    fn of_pair(&self, pair: &Pair<'_>, token_weight: f64, metrics: &mut Vec<Metric>) -> PairLoss {
        let beta = self.beta;
        match self.loss {
            PreferenceLoss::Sigmoid { label_smoothing } => sigmoid_loss(pair, beta, label_smoothing),
            PreferenceLoss::Robust { label_smoothing } => robust_loss(pair, beta, label_smoothing),
            PreferenceLoss::Hinge => hinge_loss(pair, beta),
            PreferenceLoss::Ipo => ipo_loss(pair, beta),
            PreferenceLoss::Simpo { gamma, label_smoothing } => {
                simpo_loss(pair, beta, gamma, label_smoothing)
            }
            PreferenceLoss::Orpo => {
                let found = orpo_loss(pair, beta, token_weight);
                metrics.extend([
                    Metric { name: "nll_loss", sum: token_weight * found.nll, weight: 1.0 },
                    Metric { name: "log_odds_chosen", sum: found.log_odds, weight: 1.0 },
                    Metric {
                        name: "log_odds_ratio",
                        sum: super::logistic::log_sigmoid(found.log_odds),
                        weight: 1.0,
                    },
                ]);
                found.loss
            }
        }
    }

    fn metrics(&self, pair: &Pair<'_>, metrics: &mut Vec<Metric>) {
        let measures = [&pair.chosen, &pair.rejected].map(|completion| match self.loss.is_of_means() {
            true => (self.beta * completion.mean(), completion.mean()),
            false => (self.beta * completion.ratio(), completion.sum()),
        });
        let [(chosen, chosen_logp), (rejected, rejected_logp)] = measures;
        let per_pair = |name, sum| Metric { name, sum, weight: 1.0 };
        metrics.extend([
            per_pair("rewards/chosen", chosen),
            per_pair("rewards/rejected", rejected),
            per_pair("rewards/accuracies", if chosen > rejected { 1.0 } else { 0.0 }),
            per_pair("rewards/margins", chosen - rejected),
            per_pair("logps/chosen", chosen_logp),
            per_pair("logps/rejected", rejected_logp),
        ]);
        for CompletionLogps { logp, reference } in [pair.chosen, pair.rejected] {
            let k2 = logp.iter().zip(reference).map(|(&logp, &reference)| {
                let d = f64::from(logp) - f64::from(reference);
                d * d / 2.0
            });
            metrics.push(Metric { name: "kl", sum: k2.sum(), weight: reference.len() as f64 });
        }
    }
}

impl Objective for Preference {
    type Example = CompletionPair;
    type Side = PreferenceSide;

    const KIND: LossKind = LossKind::PerExample;

    fn collate(&self, examples: &[&CompletionPair], step: &[&CompletionPair]) -> MicroBatch<PreferenceSide> {
        let prompt_tokens = match self.loss {
            PreferenceLoss::Orpo => PromptTokens::Trained,
            _ => PromptTokens::Given,
        };
        let laid_out = collate_completions(examples.iter().copied(), prompt_tokens);
        let tokens: usize =
            step.iter().map(|pair| (pair.prompt.len() + pair.completions[0].len()).saturating_sub(1)).sum();
        let references = examples.iter().map(|example| example.reference.clone());
        let side = PreferenceSide {
            pairs: laid_out.predicted.into_iter().zip(references).collect(),
            token_weight: step.len() as f64 / tokens.max(1) as f64,
        };
        MicroBatch { batch: laid_out.batch, targets: laid_out.targets, rows: laid_out.rows, side }
    }

    fn loss(&self, micro: &MicroBatch<PreferenceSide>, logp: &[f32]) -> Loss {
        let mut loss = Loss { d_logp: vec![0.0; micro.batch.len()], ..Loss::default() };
        let of = |rows: &Range<usize>| logp.get(rows.clone()).unwrap_or_default();
        for (rows, reference) in &micro.side.pairs {
            let [chosen, rejected] = &rows.completions;
            let (first, second) = reference.split_at(chosen.len().min(reference.len()));
            let pair = Pair {
                prompt: of(&rows.prompt),
                chosen: CompletionLogps { logp: of(chosen), reference: first },
                rejected: CompletionLogps { logp: of(rejected), reference: second },
            };
            let found = self.of_pair(&pair, micro.side.token_weight, &mut loss.metrics);
            self.metrics(&pair, &mut loss.metrics);
            loss.sum += found.value;
            loss.weight += 1.0;
            for (rows, slope) in
                [(&rows.prompt, found.d_prompt), (chosen, found.d_chosen), (rejected, found.d_rejected)]
            {
                loss.d_logp[rows.clone()].fill(slope as f32);
            }
        }
        loss
    }

    fn source(&self, example: &CompletionPair) -> String {
        example.source.to_string()
    }

    fn fingerprint(&self, example: &CompletionPair, add: &mut dyn FnMut(&[u8])) {
        example.fingerprint(add);
    }
}
