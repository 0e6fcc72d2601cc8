//! The loss of a decoder on held-out examples: the mean per token and its exponential, or the mean per example.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use parlor_model::{AdapterChoice, Decoder, DecoderError, Workspace};

use crate::distributed::Collective;
use crate::event::Flow;
use crate::objective::{LossKind, MetricSums, MicroBatch, Objective};

/// An evaluation.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// What the loss is a mean over.
    pub kind: LossKind,
    /// Mean loss over the weight.
    pub loss: f64,
    /// Sum of the weights: trained tokens, or examples.
    pub weight: f64,
    /// Tokens that went through the model.
    pub tokens: u64,
    /// Wall-clock seconds.
    pub seconds: f64,
    /// The objective's other metrics.
    pub metrics: Vec<(&'static str, f64)>,
}

impl Evaluation {
    /// `exp(loss)`, at most the largest f64: the perplexity, when the loss is per token.
    pub fn perplexity(&self) -> f64 {
        self.loss.exp().min(f64::MAX)
    }

    /// A metric by its name without `eval_`: `loss`, `perplexity`, or one of the objective's.
    pub fn metric(&self, name: &str) -> Option<f64> {
        match name {
            "loss" => Some(self.loss),
            "perplexity" => (self.kind == LossKind::PerToken).then(|| self.perplexity()),
            _ => self.metrics.iter().find(|(own, _)| *own == name).map(|(_, value)| *value),
        }
    }

    /// The names that [`Self::metric`] accepts.
    pub fn metric_names(&self) -> impl Iterator<Item = &'static str> {
        let perplexity = (self.kind == LossKind::PerToken).then_some("perplexity");
        ["loss"].into_iter().chain(perplexity).chain(self.metrics.iter().map(|(name, _)| *name))
    }

    /// Tokens per second.
    pub fn tokens_per_second(&self) -> f64 {
        self.tokens as f64 / self.seconds.max(1e-9)
    }
}

/// How examples run through a model without a backward pass.
#[derive(Clone, Copy)]
pub(crate) struct ForwardOptions<'a> {
    /// Examples per pass; fewer when memory runs out.
    pub(crate) batch_size: usize,
    /// The adapter in force.
    pub(crate) adapter: AdapterChoice,
    /// Set from another thread to stop early.
    pub(crate) stop: &'a AtomicBool,
    pub(crate) collective: &'a dyn Collective,
}

/// Receives a pass and the log-probabilities of its targets.
type EachPass<'a, S> = dyn FnMut(&MicroBatch<S>, &[f32]) -> Flow + 'a;

/// Runs this rank's share of the examples through `decoder` and hands each pass with its log-probabilities to
/// `each`, which may ask to stop. False when it was stopped.
///
/// # Errors
/// When examples do not fit the decoder: which, and why.
pub(crate) fn forward_passes<O: Objective>(
    objective: &O,
    decoder: &Decoder,
    examples: &[&O::Example],
    passes: ForwardOptions<'_>,
    workspace: &mut Workspace,
    each: &mut EachPass<'_, O::Side>,
) -> Result<bool, (Range<usize>, DecoderError)> {
    // Blocks of examples go to the ranks round-robin.
    let (ranks, block) = (passes.collective.world_size(), passes.batch_size.max(1));
    let (mut first, mut batch_size) = (0, block);
    while first < examples.len() {
        // Several ranks never stop here: stopping at different passes would leave them waiting for each other.
        if ranks == 1 && passes.stop.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let end = examples.len().min((first / block + 1) * block);
        if (first / block) % ranks != passes.collective.rank() {
            first = end;
            continue;
        }
        let range = first..end.min(first + batch_size);
        let mut micro = objective.collate(&examples[range.clone()], examples);
        micro.batch = micro.batch.with_adapter(passes.adapter);
        let logp = match decoder.evaluate(&micro.batch, &micro.targets, workspace) {
            Err(error @ DecoderError::OutOfMemory { .. }) if range.len() > 1 => {
                batch_size = range.len().div_ceil(2);
                tracing::warn!("{error}; evaluating {batch_size} examples at a time");
                workspace.release();
                continue;
            }
            result => result.map_err(|error| (range.clone(), error))?,
        };
        first = range.end;
        if each(&micro, &logp) == Flow::Stop {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Evaluates `decoder`, `batch_size` examples per pass, each rank its share. None when `stop` was set, which
/// only a single rank looks at.
///
/// # Errors
/// When an example does not fit the decoder.
pub fn evaluate_examples<O: Objective>(
    objective: &O,
    decoder: &Decoder,
    examples: &[O::Example],
    batch_size: usize,
    workspace: &mut Workspace,
    stop: &AtomicBool,
    collective: &dyn Collective,
) -> Result<Option<Evaluation>, DecoderError> {
    let start = Instant::now();
    let mut sum = 0.0;
    let mut total =
        Evaluation { kind: O::KIND, loss: 0.0, weight: 0.0, tokens: 0, seconds: 0.0, metrics: Vec::new() };
    let mut metrics = MetricSums::default();
    let refs: Vec<&O::Example> = examples.iter().collect();
    let passes = ForwardOptions { batch_size, adapter: AdapterChoice::Active, stop, collective };
    let whole = forward_passes(objective, decoder, &refs, passes, workspace, &mut |micro, logp| {
        let loss = objective.loss(micro, logp);
        sum += loss.sum;
        total.weight += loss.weight;
        total.tokens += micro.batch.len() as u64;
        metrics.add(loss.metrics);
        Flow::Continue
    });
    if !whole.map_err(|(_, error)| error)? {
        return Ok(None);
    }
    let mut sums = [sum, total.weight, total.tokens as f64];
    collective.sum_f64(&mut sums);
    metrics.sum_over(collective);
    let [sum, weight, tokens] = sums;
    (total.weight, total.tokens) = (weight, tokens as u64);
    total.loss = sum / total.weight;
    total.metrics = metrics.means(objective);
    total.seconds = start.elapsed().as_secs_f64();
    Ok(Some(total))
}
