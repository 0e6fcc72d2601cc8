//! IPO (Azar et al., 2023): the margin is drawn to a fixed distance instead of to infinity.
//!
//! Log-ratios are averaged over each completion's tokens, as TRL does after asking the authors.

use super::pair::{Pair, PairLoss};

/// `(m - 1 / (2 beta))^2` with `m = mean chosen - mean rejected`.
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
