//! What a run minimises: a batch layout, and a loss as a function of per-token log-probabilities.
//!
//! A new objective is one file in `objectives/`. It sees no model and no optimizer, and the loop sees no labels.

use std::ops::Range;

use parlor_model::{Batch, PassSize, Targets};
use sha2::{Digest, Sha256};

use crate::distributed::Collective;
use crate::hash::hex;

/// Examples laid out for one forward pass.
#[derive(Clone, Debug)]
pub struct MicroBatch<S> {
    /// The tokens.
    pub batch: Batch,
    /// What each row predicts.
    pub targets: Targets,
    /// Rows of the batch that belong to each example, in the order of the examples.
    pub rows: Vec<Range<usize>>,
    /// Further inputs of the loss, such as reference log-probabilities.
    pub side: S,
}

/// A loss and its derivative. Sums and not means: the loop divides once by the weight of a whole step.
#[derive(Clone, Debug, Default)]
pub struct Loss {
    /// Sum of the loss over its units (tokens, or pairs).
    pub sum: f64,
    /// Sum of the units' weights.
    pub weight: f64,
    /// Metrics to log besides the loss.
    pub metrics: Vec<Metric>,
    /// Derivative of `sum` by each log-probability, `[tokens]`.
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
    /// Adds the metrics of one pass.
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

    /// Sums over all ranks. Rank 0 decides which metrics there are, since only its means are reported.
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

    /// The means, and the metrics that `objective` derives from them.
    pub fn means<O: Objective>(&self, objective: &O) -> Vec<(&'static str, f64)> {
        let of_some = self.0.iter().filter(|metric| metric.weight > 0.0);
        let mut means = of_some.map(|metric| (metric.name, metric.sum / metric.weight)).collect();
        objective.derive(&mut means);
        means
    }
}

/// What a mean loss is a mean over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossKind {
    /// Negative log-probability per token: its exponential is the perplexity.
    PerToken,
    /// Anything else, per example.
    PerExample,
}

/// An objective.
pub trait Objective {
    /// One training example.
    type Example;
    /// What [`Self::loss`] reads besides tokens and targets.
    type Side;

    /// What the mean loss is a mean over.
    const KIND: LossKind;

    /// Lays examples out as one ragged batch. `step` holds all examples of the optimizer step, `examples`
    /// among them: a loss with another mean within (per token, say) takes its weights from there, so that it
    /// does not depend on how a step is divided into passes.
    fn collate(&self, examples: &[&Self::Example], step: &[&Self::Example]) -> MicroBatch<Self::Side>;

    /// The loss of a batch, given the log-probability of each target, `[tokens]` (0 where there is none).
    fn loss(&self, micro: &MicroBatch<Self::Side>, logp: &[f32]) -> Loss;

    /// Whether the sums of a step are the same to rounding however the step is divided into passes.
    fn is_divisible(&self) -> bool {
        true
    }

    /// The size of a pass over these examples.
    fn size(&self, examples: &[&Self::Example]) -> PassSize {
        let micro = self.collate(examples, examples);
        let rows = micro.targets.weights.iter().filter(|&&weight| weight != 0.0).count();
        PassSize { tokens: micro.batch.len(), rows }
    }

    /// Adds metrics that follow from the means of others.
    fn derive(&self, _means: &mut Vec<(&'static str, f64)>) {}

    /// Where an example came from, for messages: `train.jsonl:12`.
    fn source(&self, example: &Self::Example) -> String;

    /// Adds the bytes that identify an example; [`examples_sha256`] hashes those of all examples, in order.
    fn fingerprint(&self, example: &Self::Example, add: &mut dyn FnMut(&[u8]));
}

/// SHA-256 over the examples as the model sees them: ids and weights, in order.
pub fn examples_sha256<O: Objective>(objective: &O, examples: &[O::Example]) -> String {
    let mut hasher = Sha256::new();
    for example in examples {
        objective.fingerprint(example, &mut |bytes| hasher.update(bytes));
    }
    hex(&hasher.finalize())
}
