//! Robust DPO (Chowdhury et al., 2024): the loss of DPO, made unbiased for a share of swapped labels.

use super::logistic::{log_sigmoid, sigmoid};
use super::pair::{Pair, PairLoss};

/// `(-(1 - e) log sigmoid(m) + e log sigmoid(-m)) / (1 - 2 e)` with `m = beta * (chosen - rejected)` and
/// `e = label_smoothing`, below 0.5.
pub fn robust_loss(pair: &Pair<'_>, beta: f64, label_smoothing: f64) -> PairLoss {
    let (margin, swapped) = (beta * (pair.chosen.ratio() - pair.rejected.ratio()), label_smoothing);
    let scale = 1.0 / (1.0 - 2.0 * swapped);
    let value = scale * (swapped * log_sigmoid(-margin) - (1.0 - swapped) * log_sigmoid(margin));
    let slope = -scale * (swapped * sigmoid(margin) + (1.0 - swapped) * sigmoid(-margin));
    PairLoss { value, d_prompt: 0.0, d_chosen: beta * slope, d_rejected: -beta * slope }
}
