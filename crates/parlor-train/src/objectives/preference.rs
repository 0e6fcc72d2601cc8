//! Preference pairs: a loss on the log-probabilities of two completions of one prompt, and the metrics that
//! TRL logs.
//!
//! Rewards are `beta` times a completion's log-ratio to the reference; for the losses without a reference,
//! `beta` times its mean log-probability, and `logps/*` are means then, as in TRL. `kl` is the k2 estimator
//! of Schulman (2020), half the square of a token's log-ratio, averaged over the tokens of both completions:
//! never negative, and 0 only where both models agree. The completions come from the data and not from the
//! model, so `kl` says how far the model has moved on them; k3, `exp(-d) - 1 + d`, would be dominated by the
//! few tokens that the model has learned to avoid. Leaves out those of TRL's metrics that need more than the
//! log-probabilities of targets: `logits/*`, `entropy`, `mean_token_accuracy`.

use std::ops::Range;

use super::completions::{CompletionPair, CompletionRows, PromptTokens, collate_completions};
use super::pair_losses::{CompletionLogps, Pair, PreferenceLoss};
use crate::config::DpoConfig;
use crate::objective::{Loss, LossKind, Metric, MicroBatch, Objective};

/// The objective on preference pairs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Preference {
    /// Which loss.
    pub loss: PreferenceLoss,
    /// Strength of the loss; see each loss.
    pub beta: f64,
}

/// Per-pass data of [`Preference`]: rows and reference log-probabilities of each pair.
#[derive(Clone, Debug, Default)]
pub struct PreferenceSide {
    pairs: Vec<(CompletionRows, Vec<f32>)>,
    /// What a token of prompt and chosen completion weighs in a likelihood term: pairs over tokens, of the
    /// whole step.
    token_weight: f64,
}

impl Preference {
    /// The objective that `training.dpo` names; none for KTO, which takes unpaired completions.
    pub fn of(config: &DpoConfig) -> Option<Self> {
        PreferenceLoss::of(config).map(|loss| Self { loss, beta: config.beta })
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
            let found = self.loss.of_pair(&pair, self.beta, micro.side.token_weight, &mut loss.metrics);
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
