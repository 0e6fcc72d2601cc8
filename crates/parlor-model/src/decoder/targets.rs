//! What each row of a batch must predict, and the weight of each prediction. A loss mask is a weight of 0.

use super::batch::Batch;

/// `[tokens]` targets and weights: row `t` predicts `ids[t]` with weight `weights[t]`. Rows of weight 0 are
/// not computed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Targets {
    /// Id to predict at each row.
    pub ids: Vec<u32>,
    /// Weight of each prediction.
    pub weights: Vec<f32>,
}

impl Targets {
    /// Next-token targets: `predicted[t]` is the weight of *being predicted* of the batch's token `t` (as HF's
    /// labels, before they are shifted). No row predicts the first token of a segment.
    pub fn next_token(batch: &Batch, predicted: &[f32]) -> Self {
        let mut targets = Self { ids: vec![0; batch.len()], weights: vec![0.0; batch.len()] };
        for segment in &batch.segments {
            for row in segment.rows.clone().skip(1) {
                targets.ids[row - 1] = batch.ids[row];
                targets.weights[row - 1] = predicted.get(row).copied().unwrap_or(0.0);
            }
        }
        targets
    }

    /// Sum of the weights.
    pub fn weight(&self) -> f64 {
        self.weights.iter().map(|&weight| f64::from(weight)).sum()
    }
}
