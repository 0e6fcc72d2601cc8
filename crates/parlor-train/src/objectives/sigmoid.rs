//! The loss of DPO (Rafailov et al., 2023): logistic on the margin of the completions' log-ratios to the reference.
//!
//! With label smoothing it is the conservative form (Mitchell, 2023) that TRL had up to 0.19; without, TRL's
//! `loss_type: sigmoid` of any version.

use super::logistic::{log_sigmoid, sigmoid};
use super::pair::{Pair, PairLoss};

/// `-(1 - e) log sigmoid(m) - e log sigmoid(-m)` with `m = beta * (chosen - rejected)` and `e = label_smoothing`.
pub fn sigmoid_loss(pair: &Pair<'_>, beta: f64, label_smoothing: f64) -> PairLoss {
    let margin = beta * (pair.chosen.ratio() - pair.rejected.ratio());
    let (value, slope) = smoothed(margin, label_smoothing);
    PairLoss { value, d_prompt: 0.0, d_chosen: beta * slope, d_rejected: -beta * slope }
}

/// The loss on a margin, and its derivative by it.
pub(super) fn smoothed(margin: f64, smoothing: f64) -> (f64, f64) {
    (
        -(1.0 - smoothing) * log_sigmoid(margin) - smoothing * log_sigmoid(-margin),
        smoothing * sigmoid(margin) - (1.0 - smoothing) * sigmoid(-margin),
    )
}
