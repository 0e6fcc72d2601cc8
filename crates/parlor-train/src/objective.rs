//! What a run minimises: a batch type, and a loss as a function of per-token log-probabilities.
//!
//! A new objective is one file in `objectives/`. It sees no model and no optimizer; the loop sees no labels.

use std::ops::Range;

use parlor_model::{Batch, PassSize, Targets};

use crate::distributed::Collective;

/// Examples laid out for one forward pass.
#[derive(Clone, Debug)]
pub struct MicroBatch<S> {
    /// The tokens.
    pub batch: Batch,
    /// What each row predicts.
    pub targets: Targets,
    /// Rows of the batch that each example has, in the order of the examples.
    pub rows: Vec<Range<usize>>,
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
    /// Further numbers to log.
    pub metrics: Vec<Metric>,
    /// `[tokens]`: derivative of `sum` with respect to each log-probability.
    pub d_logp: Vec<f32>,
}

/// A number to log: a sum with the weight that turns it into a mean, over a pass, a step or an evaluation alike.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Metric {
    /// Name, as TRL has it: `rewards/chosen`.
    pub name: &'static str,
    /// Sum over its units.
    pub sum: f64,
    /// Sum of their weights; with 0 there is no mean, and nothing is logged.
    pub weight: f64,
}

/// Metrics added up over passes.
#[derive(Clone, Debug, Default)]
pub struct MetricSums(Vec<Metric>);

impl MetricSums {
    /// Adds those of one pass.
    pub fn add(&mut self, metrics: Vec<Metric>) {
        for metric in metrics {
            match self.0.iter_mut().find(|known| known.name == metric.name) {
                Some(total) => {
                    total.sum += metric.sum;
                    total.weight += metric.weight;
                }
                None => self.0.push(metric),
            }
        }
    }

    /// Adds up those of all ranks. Which there are is rank 0's to say, the only one whose means are reported.
    pub(crate) fn sum_over(&mut self, collective: &dyn Collective) {
        if collective.world_size() == 1 {
            return;
        }
        let names: Vec<&str> = self.0.iter().map(|metric| metric.name).collect();
        let mut names = names.join("\n").into_bytes();
        let mut length = (names.len() as u64).to_le_bytes();
        collective.broadcast(0, &mut length);
        names.resize(u64::from_le_bytes(length) as usize, 0);
        collective.broadcast(0, &mut names);
        let names = String::from_utf8_lossy(&names).into_owned();
        let known = |name: &str| self.0.iter().find(|metric| metric.name == name);
        let mut sums: Vec<f64> = names
            .lines()
            .flat_map(|name| known(name).map_or([0.0; 2], |metric| [metric.sum, metric.weight]))
            .collect();
        collective.sum_f64(&mut sums);
        for (name, sums) in names.lines().zip(sums.chunks_exact(2)) {
            if let Some(metric) = self.0.iter_mut().find(|metric| metric.name == name) {
                [metric.sum, metric.weight] = [sums[0], sums[1]];
            }
        }
    }

    /// The means, and what `objective` derives from them.
    pub fn means<O: Objective>(&self, objective: &O) -> Vec<(&'static str, f64)> {
        let of_some = self.0.iter().filter(|metric| metric.weight > 0.0);
        let mut means = of_some.map(|metric| (metric.name, metric.sum / metric.weight)).collect();
        objective.derive(&mut means);
        means
    }
}

/// What a mean loss says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossKind {
    /// Negative log-probability per token: its exponential is the perplexity.
    PerToken,
    /// Anything else, per example.
    PerExample,
}

/// An objective.
pub trait Objective {
    /// One row of its data.
    type Example;
    /// What its loss needs beside tokens and targets.
    type Side;

    /// What its mean says.
    const KIND: LossKind;

    /// Lays examples out as one ragged batch. They are some of those of `step`, over which the loop takes the mean:
    /// a loss that has a mean of another kind within (per token, say) finds its weights there, so that it does not
    /// depend on how a step is divided into passes.
    fn collate(&self, examples: &[&Self::Example], step: &[&Self::Example]) -> MicroBatch<Self::Side>;

    /// The loss of a batch, given the log-probability of each target (0 where there is none).
    fn loss(&self, micro: &MicroBatch<Self::Side>, logp: &[f32]) -> Loss;

    /// Whether the sums of a step are the same however it is divided into passes, but for rounding.
    fn is_divisible(&self) -> bool {
        true
    }

    /// What a pass over these examples is as large as.
    fn size(&self, examples: &[&Self::Example]) -> PassSize {
        let micro = self.collate(examples, examples);
        let rows = micro.targets.weights.iter().filter(|&&weight| weight != 0.0).count();
        PassSize { tokens: micro.batch.len(), rows }
    }

    /// Adds metrics that follow from the means of others.
    fn derive(&self, _means: &mut Vec<(&'static str, f64)>) {}

    /// Where an example came from, for messages: `train.jsonl:12`.
    fn source(&self, example: &Self::Example) -> String;

    /// Bytes that identify an example: the run's data hash is over all of them, in order.
    fn fingerprint(&self, example: &Self::Example, add: &mut dyn FnMut(&[u8]));
}
