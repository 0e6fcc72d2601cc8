//! What a run minimises: a batch type, and a loss as a function of per-token log-probabilities.
//!
//! A new objective is one file in `objectives/`. It sees no model and no optimizer; the loop sees no labels.

use parlor_model::{Batch, Targets};

/// Examples laid out for one forward pass.
#[derive(Clone, Debug)]
pub struct MicroBatch<S> {
    /// The tokens.
    pub batch: Batch,
    /// What each row predicts.
    pub targets: Targets,
    /// What the loss needs besides (reference log-probabilities, say).
    pub side: S,
}

/// A loss and its derivative. Sums, not means: the loop divides once by the weight of a whole step.
#[derive(Clone, Debug, Default)]
pub struct Loss {
    /// Sum of the loss over its units (tokens, or pairs).
    pub sum: f64,
    /// Sum of the units' weights.
    pub weight: f64,
    /// Further sums to log, divided by `weight` as the loss is.
    pub metrics: Vec<(&'static str, f64)>,
    /// `[tokens]`: derivative of `sum` with respect to each log-probability.
    pub d_logp: Vec<f32>,
}

/// An objective.
pub trait Objective {
    /// One row of its data.
    type Example;
    /// What its loss needs beside tokens and targets.
    type Side;

    /// Lays examples out as one ragged batch.
    fn collate(&self, examples: &[&Self::Example]) -> MicroBatch<Self::Side>;

    /// The loss of a batch, given the log-probability of each target (0 where there is none).
    fn loss(&self, micro: &MicroBatch<Self::Side>, logp: &[f32]) -> Loss;

    /// Where an example came from, for messages: `train.jsonl:12`.
    fn source(&self, example: &Self::Example) -> String;

    /// Bytes that identify an example: the run's data hash is over all of them, in order.
    fn fingerprint(&self, example: &Self::Example, add: &mut dyn FnMut(&[u8]));
}
