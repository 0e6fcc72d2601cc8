//! KTO (Ethayarajh et al., 2024): single completions with a verdict, measured against the KL divergence from the reference.
//!
//! As TRL's `KTOTrainer`: the divergence is estimated from completions to other prompts, takes no part in the derivative,
//! and is never below 0.

use super::logistic::sigmoid;
use super::pair::CompletionLogps;

/// Settings of the loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KtoWeights {
    /// Strength of the pull towards the reference.
    pub beta: f64,
    /// Weight of wanted completions.
    pub desirable: f64,
    /// Weight of unwanted ones.
    pub undesirable: f64,
}

/// The loss of a completion, and its derivative by each of its log-probabilities: `w (1 - sigmoid(beta (ratio - kl)))` of
/// a wanted completion, `w (1 - sigmoid(beta (kl - ratio)))` of an unwanted one.
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

/// The divergence that the completions of a pass to other prompts show: the mean log-ratio, at least 0.
pub fn kto_kl<'a>(mismatched: impl Iterator<Item = CompletionLogps<'a>>) -> f64 {
    let (sum, count) =
        mismatched.fold((0.0, 0.0), |(sum, count), completion| (sum + completion.ratio(), count + 1.0));
    if count > 0.0 { (sum / count).max(0.0) } else { 0.0 }
}
