//! The losses on preference pairs, each a function of the log-probabilities of two completions of one prompt.
//!
//! [`PreferenceLoss`] lists them; a new loss is a variant there and a function here. All are as TRL computes
//! them.

use crate::config::{DpoConfig, DpoLoss};
use crate::objective::Metric;

/// Log-probabilities of one completion's tokens.
#[derive(Clone, Copy, Debug)]
pub struct CompletionLogps<'a> {
    /// `[tokens]`: under the model that is trained.
    pub logp: &'a [f32],
    /// `[tokens]`: under the reference model; empty without a reference, which counts as zeros.
    pub reference: &'a [f32],
}

impl CompletionLogps<'_> {
    /// Number of tokens, at least 1.
    pub fn tokens(&self) -> f64 {
        self.logp.len().max(1) as f64
    }

    /// Log-probability of the completion.
    pub fn sum(&self) -> f64 {
        sum(self.logp)
    }

    /// Mean log-probability of its tokens.
    pub fn mean(&self) -> f64 {
        self.sum() / self.tokens()
    }

    /// Log-ratio to the reference: the sum of `logp` less that of `reference`.
    pub fn ratio(&self) -> f64 {
        self.sum() - sum(self.reference)
    }
}

fn sum(values: &[f32]) -> f64 {
    values.iter().map(|&value| f64::from(value)).sum()
}

/// A preference pair as a loss sees it.
#[derive(Clone, Copy, Debug)]
pub struct Pair<'a> {
    /// `[tokens - 1]`: log-probabilities of the prompt's tokens but the first; empty unless the loss reads them.
    pub prompt: &'a [f32],
    /// The preferred completion.
    pub chosen: CompletionLogps<'a>,
    /// The other completion.
    pub rejected: CompletionLogps<'a>,
}

/// The loss of one pair and its derivatives. All tokens of one sequence share a derivative.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PairLoss {
    /// The loss.
    pub value: f64,
    /// Derivative by each log-probability of the prompt.
    pub d_prompt: f64,
    /// Derivative by each log-probability of `chosen`.
    pub d_chosen: f64,
    /// Derivative by each log-probability of `rejected`.
    pub d_rejected: f64,
}

/// A loss on preference pairs, with its settings besides `beta`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PreferenceLoss {
    /// See [`sigmoid_loss`].
    Sigmoid {
        /// Assumed share of swapped labels.
        label_smoothing: f64,
    },
    /// See [`robust_loss`].
    Robust {
        /// Assumed share of swapped labels, below 0.5.
        label_smoothing: f64,
    },
    /// See [`hinge_loss`].
    Hinge,
    /// See [`ipo_loss`].
    Ipo,
    /// See [`simpo_loss`].
    Simpo {
        /// Target margin.
        gamma: f64,
        /// Assumed share of swapped labels.
        label_smoothing: f64,
    },
    /// See [`orpo_loss`].
    Orpo,
}

impl PreferenceLoss {
    /// The loss that `training.dpo` names; none for KTO, which takes unpaired completions.
    pub fn of(config: &DpoConfig) -> Option<Self> {
        let label_smoothing = config.label_smoothing;
        match config.loss_type {
            DpoLoss::Sigmoid => Some(Self::Sigmoid { label_smoothing }),
            DpoLoss::Robust => Some(Self::Robust { label_smoothing }),
            DpoLoss::Hinge => Some(Self::Hinge),
            DpoLoss::Ipo => Some(Self::Ipo),
            DpoLoss::Simpo => Some(Self::Simpo { gamma: config.simpo_gamma, label_smoothing }),
            DpoLoss::Orpo => Some(Self::Orpo),
            DpoLoss::Kto => None,
        }
    }

    /// Whether the loss reads mean log-probabilities and no reference.
    pub(super) fn is_of_means(self) -> bool {
        matches!(self, Self::Simpo { .. } | Self::Orpo)
    }

    /// The loss of one pair; metrics that only this loss has are appended to `metrics`. `token_weight` is
    /// what a token weighs in a likelihood term (see [`orpo_loss`]).
    pub(super) fn of_pair(
        self,
        pair: &Pair<'_>,
        beta: f64,
        token_weight: f64,
        metrics: &mut Vec<Metric>,
    ) -> PairLoss {
        match self {
            Self::Sigmoid { label_smoothing } => sigmoid_loss(pair, beta, label_smoothing),
            Self::Robust { label_smoothing } => robust_loss(pair, beta, label_smoothing),
            Self::Hinge => hinge_loss(pair, beta),
            Self::Ipo => ipo_loss(pair, beta),
            Self::Simpo { gamma, label_smoothing } => simpo_loss(pair, beta, gamma, label_smoothing),
            Self::Orpo => {
                let found = orpo_loss(pair, beta, token_weight);
                let per_pair = |name, sum| Metric { name, sum, weight: 1.0 };
                metrics.extend([
                    per_pair("nll_loss", token_weight * found.nll),
                    per_pair("log_odds_chosen", found.log_odds),
                    per_pair("log_odds_ratio", log_sigmoid(found.log_odds)),
                ]);
                found.loss
            }
        }
    }
}

/// The loss of DPO (Rafailov et al., 2023): logistic on the margin of the log-ratios to the reference.
///
/// `-(1 - e) log sigmoid(m) - e log sigmoid(-m)` with `m = beta * (chosen - rejected)` and `e = label_smoothing`.
/// With label smoothing it is the conservative form (Mitchell, 2023) that TRL had up to 0.19; without, TRL's
/// `loss_type: sigmoid` of any version.
pub fn sigmoid_loss(pair: &Pair<'_>, beta: f64, label_smoothing: f64) -> PairLoss {
    let margin = beta * (pair.chosen.ratio() - pair.rejected.ratio());
    let (value, slope) = smoothed(margin, label_smoothing);
    PairLoss { value, d_prompt: 0.0, d_chosen: beta * slope, d_rejected: -beta * slope }
}

/// The logistic loss of a margin with label smoothing, and its derivative by the margin.
fn smoothed(margin: f64, smoothing: f64) -> (f64, f64) {
    (
        -(1.0 - smoothing) * log_sigmoid(margin) - smoothing * log_sigmoid(-margin),
        smoothing * sigmoid(margin) - (1.0 - smoothing) * sigmoid(-margin),
    )
}

/// Robust DPO (Chowdhury et al., 2024): the loss of DPO, made unbiased for a share of swapped labels.
///
/// `(-(1 - e) log sigmoid(m) + e log sigmoid(-m)) / (1 - 2 e)` with `m = beta * (chosen - rejected)` and
/// `e = label_smoothing`, below 0.5.
pub fn robust_loss(pair: &Pair<'_>, beta: f64, label_smoothing: f64) -> PairLoss {
    let (margin, swapped) = (beta * (pair.chosen.ratio() - pair.rejected.ratio()), label_smoothing);
    let scale = 1.0 / (1.0 - 2.0 * swapped);
    let value = scale * (swapped * log_sigmoid(-margin) - (1.0 - swapped) * log_sigmoid(margin));
    let slope = -scale * (swapped * sigmoid(margin) + (1.0 - swapped) * sigmoid(-margin));
    PairLoss { value, d_prompt: 0.0, d_chosen: beta * slope, d_rejected: -beta * slope }
}

/// The hinge loss of SLiC (Zhao et al., 2023) on DPO's margin.
///
/// `max(0, 1 - m)` with `m = beta * (chosen - rejected)`.
pub fn hinge_loss(pair: &Pair<'_>, beta: f64) -> PairLoss {
    let margin = beta * (pair.chosen.ratio() - pair.rejected.ratio());
    let slope = if margin < 1.0 { -beta } else { 0.0 };
    PairLoss { value: (1.0 - margin).max(0.0), d_prompt: 0.0, d_chosen: slope, d_rejected: -slope }
}

/// IPO (Azar et al., 2023): the margin is drawn to a fixed distance instead of to infinity.
///
/// `(m - 1 / (2 beta))^2` with `m = mean chosen - mean rejected`. Log-ratios are averaged over each
/// completion's tokens, as in TRL after asking the authors.
pub fn ipo_loss(pair: &Pair<'_>, beta: f64) -> PairLoss {
    let (chosen, rejected) = (pair.chosen.tokens(), pair.rejected.tokens());
    let distance = pair.chosen.ratio() / chosen - pair.rejected.ratio() / rejected - 0.5 / beta;
    PairLoss {
        value: distance * distance,
        d_prompt: 0.0,
        d_chosen: 2.0 * distance / chosen,
        d_rejected: -2.0 * distance / rejected,
    }
}

/// SimPO (Meng et al., 2024): mean log-probabilities, a target margin, no reference.
///
/// The loss of DPO on `m = beta * (mean chosen - mean rejected) - gamma`. As TRL's `CPOTrainer` with
/// `loss_type: simpo` and `cpo_alpha: 0`, label smoothing included.
pub fn simpo_loss(pair: &Pair<'_>, beta: f64, gamma: f64, label_smoothing: f64) -> PairLoss {
    let margin = beta * (pair.chosen.mean() - pair.rejected.mean()) - gamma;
    let (value, slope) = smoothed(margin, label_smoothing);
    PairLoss {
        value,
        d_prompt: 0.0,
        d_chosen: beta * slope / pair.chosen.tokens(),
        d_rejected: -beta * slope / pair.rejected.tokens(),
    }
}

/// The loss of ORPO and its two terms.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OrpoLoss {
    /// The loss of the pair.
    pub loss: PairLoss,
    /// Negative log-probability of prompt and chosen completion, summed over tokens.
    pub nll: f64,
    /// Logarithm of the odds ratio of the mean token probabilities.
    pub log_odds: f64,
}

/// ORPO (Hong et al., 2024): likelihood of the chosen completion, and the odds ratio of both. No reference.
///
/// `token_weight * nll - beta * log sigmoid(log odds ratio)`. `token_weight` turns the sum over tokens into a
/// mean: pairs over tokens, of a whole step. As TRL's `ORPOTrainer`, whose likelihood term counts the
/// prompt's tokens too, and whose `beta` is the paper's lambda.
pub fn orpo_loss(pair: &Pair<'_>, beta: f64, token_weight: f64) -> OrpoLoss {
    let nll = -pair.chosen.sum() - pair.prompt.iter().map(|&logp| f64::from(logp)).sum::<f64>();
    let ((chosen, d_chosen), (rejected, d_rejected)) = (log_odds(pair.chosen), log_odds(pair.rejected));
    let log_odds = chosen - rejected;
    let slope = -beta * sigmoid(-log_odds);
    OrpoLoss {
        loss: PairLoss {
            value: token_weight * nll - beta * log_sigmoid(log_odds),
            d_prompt: -token_weight,
            d_chosen: slope * d_chosen - token_weight,
            d_rejected: -slope * d_rejected,
        },
        nll,
        log_odds,
    }
}

/// `log(p / (1 - p))` of the mean token probability `p`, and its derivative by each log-probability.
fn log_odds(completion: CompletionLogps<'_>) -> (f64, f64) {
    // A certain completion has no finite odds; the next f32 below it has.
    let mean = completion.mean().min(-f64::from(f32::EPSILON));
    let doubt = -mean.exp_m1();
    (mean - doubt.ln(), 1.0 / (doubt * completion.tokens()))
}

/// The logistic function without overflow: `1 / (1 + exp(-x))`.
pub(super) fn sigmoid(x: f64) -> f64 {
    let small = (-x.abs()).exp();
    if x >= 0.0 { 1.0 / (1.0 + small) } else { small / (1.0 + small) }
}

/// `log sigmoid(x)`, without overflow.
pub(super) fn log_sigmoid(x: f64) -> f64 {
    x.min(0.0) - (-x.abs()).exp().ln_1p()
}
