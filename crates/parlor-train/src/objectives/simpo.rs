//! SimPO (Meng et al., 2024): mean log-probabilities, a target margin, no reference.
//!
//! As TRL's `CPOTrainer` with `loss_type: simpo` and `cpo_alpha: 0`, label smoothing included.

use super::pair::{Pair, PairLoss};
use super::sigmoid::smoothed;

/// The loss of DPO on `m = beta * (mean chosen - mean rejected) - gamma`.
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
