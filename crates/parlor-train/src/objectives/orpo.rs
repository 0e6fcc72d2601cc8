//! ORPO (Hong et al., 2024): fine-tuning on the better completion, and the odds ratio of both. No reference.
//!
//! As TRL's `ORPOTrainer`, whose likelihood term counts the prompt's tokens too, and whose `beta` is the paper's
//! lambda.

use super::logistic::{log_sigmoid, sigmoid};
use super::pair::{CompletionLogps, Pair, PairLoss};

/// What the loss is made of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OrpoLoss {
    /// The loss.
    pub loss: PairLoss,
    /// Negative log-probability of prompt and better completion, summed over tokens.
    pub nll: f64,
    /// Logarithm of the odds ratio of the mean token probabilities.
    pub log_odds: f64,
}

/// `token_weight * nll - beta * log sigmoid(log odds ratio)`. `token_weight` turns the sum over tokens into a mean:
/// pairs over tokens, of a whole step.
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
