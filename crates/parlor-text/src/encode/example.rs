//! A training example, and how rows become examples.

use serde::Serialize;

use crate::config::{OnBadRow, OnLongRow};
use crate::datasets::RowSource;

/// One sequence to train on.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    /// `[tokens]`.
    pub ids: Vec<u32>,
    /// `[tokens]`: weight of the loss of predicting `ids[t]` from the ids before it. The first is 0, since
    /// nothing precedes it.
    pub weights: Vec<f32>,
    /// The row that it was made from.
    pub source: RowSource,
}

/// Which tokens of a conversation are trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TrainOn {
    /// The assistant's, or the completion's.
    AssistantOnly,
    /// All.
    All,
}

/// How rows become examples.
#[derive(Clone, Debug, PartialEq)]
pub struct EncodeOptions {
    /// Longest example in tokens.
    pub max_length: usize,
    /// Rows tokenised at a time.
    pub batch_size: usize,
    /// Which tokens are trained.
    pub train_on: TrainOn,
    /// What happens to rows that are longer than `max_length`. Not used where long rows become several examples.
    pub on_long_row: OnLongRow,
    /// What happens to rows that cannot be rendered, or whose answers cannot be found in the rendering.
    pub on_bad_row: OnBadRow,
}
