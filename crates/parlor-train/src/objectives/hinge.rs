//! The hinge loss of SLiC (Zhao et al., 2023), on DPO's margin.

use super::pair::{Pair, PairLoss};

/// `max(0, 1 - m)` with `m = beta * (chosen - rejected)`.
pub fn hinge_loss(pair: &Pair<'_>, beta: f64) -> PairLoss {
    let margin = beta * (pair.chosen.ratio() - pair.rejected.ratio());
    let slope = if margin < 1.0 { -beta } else { 0.0 };
    PairLoss { value: (1.0 - margin).max(0.0), d_prompt: 0.0, d_chosen: slope, d_rejected: -slope }
}
