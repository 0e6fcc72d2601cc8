//! One step: forward and backward over its examples in passes, this rank's share of them, and the update.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::ops::Range;

use parlor_model::{Checkpointing, DecoderError};
use parlor_text::epoch_order;

use super::Trainer;
use crate::clip::{clip_factor, group_norms};
use crate::distributed::summed;
use crate::error::{NonFinite, TrainError};
use crate::event::TrainEvent;
use crate::objective::{Loss, MetricSums, MicroBatch, Objective};
use crate::supply::ExampleSource;

/// Numbers of a step, before they are reported.
pub(super) struct StepResult {
    pub(super) loss: f64,
    pub(super) learning_rate: f64,
    pub(super) grad_norm: f64,
    pub(super) metrics: Vec<(&'static str, f64)>,
}

/// StepSums over the passes of a step.
#[derive(Default)]
struct StepSums {
    loss: f64,
    weight: f64,
    tokens: u64,
    metrics: MetricSums,
}

/// Whether more is added to the gradients after a pass.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PassPosition {
    More,
    Last,
}

impl<O: Objective> Trainer<'_, '_, O> {
    /// Forward and backward over the step's examples, and the update.
    pub(super) fn take_step(&mut self) -> Result<StepResult, TrainError> {
        let epoch = self.plan.epoch(self.step);
        let (places, streamed) = (self.plan.places(self.step), &mut Vec::new());
        let chosen: Vec<&O::Example> = match &mut self.job.train {
            ExampleSource::InMemory(examples) => {
                let examples = *examples;
                if self.order.0 != epoch {
                    self.order = (epoch, epoch_order(examples.len(), self.job.training.seed, epoch));
                }
                self.order.1[places].iter().map(|&place| &examples[place]).collect()
            }
            ExampleSource::Stream { next, .. } => {
                *streamed = next(places.len())?;
                streamed.iter().collect()
            }
        };
        let learning_rate = self.schedule.at(self.step);
        let mut sums = StepSums::default();
        let mut passes: VecDeque<Range<usize>> = self.plan.own_passes(chosen.len(), self.collective().rank());
        if passes.is_empty() {
            self.gradients.zero();
            self.sum_nothing();
        } else {
            self.gradients.zero_lazily();
        }
        while let Some(pass) = passes.pop_front() {
            let middle = pass.end.min(pass.start + self.micro_batch);
            if middle < pass.end {
                passes.push_front(middle..pass.end);
            }
            let position = if passes.is_empty() { PassPosition::Last } else { PassPosition::More };
            if !self.pass(&chosen, pass.start..middle, position, &mut sums)? {
                passes.push_front(pass.start..middle);
            }
        }
        let mut totals = [sums.loss, sums.weight, sums.tokens as f64];
        self.collective().sum_f64(&mut totals);
        sums.metrics.sum_over(self.collective());
        let [sum, weight, tokens] = totals;
        let mean = if weight > 0.0 { 1.0 / weight } else { 0.0 };
        let grad_norm = self.gradients.global_norm() * mean;
        if !grad_norm.is_finite() {
            return Err(self.not_finite("gradient norm", grad_norm, &chosen, weight));
        }
        let scale = clip_factor(grad_norm, self.job.hyper.max_grad_norm) * mean;
        let factor = self.schedule.factor(self.step);
        self.optimizer.update(self.decoder, &self.gradients, scale as f32, factor)?;
        if self.plan.world_size > 1 {
            self.optimizer.share_parameters(self.decoder, self.job.collective);
        }
        self.step += 1;
        self.totals.tokens += tokens as u64;
        self.totals.loss_sum += sum;
        self.totals.weight += weight;
        let metrics = sums.metrics.means(self.job.objective);
        Ok(StepResult { loss: sum * mean, learning_rate, grad_norm, metrics })
    }

    /// Forward and backward over the examples at `places` of those of the step. False, with nothing done, when there was too
    /// little memory: it is to be made again in a smaller way.
    fn pass(
        &mut self,
        chosen: &[&O::Example],
        places: Range<usize>,
        position: PassPosition,
        sums: &mut StepSums,
    ) -> Result<bool, TrainError> {
        // Randomness of its own for every pass, and the same when the step is made again.
        self.pass_options.seed = Some(pass_seed(self.job.training.seed, self.step, places.start));
        let examples = &chosen[places];
        let objective = self.job.objective;
        let micro = objective.collate(examples, chosen);
        let refused = |source: DecoderError| TrainError::Batch {
            rows: sources(objective, examples),
            source: Box::new(source),
        };
        let logp =
            match self.decoder.logprobs(&micro.batch, &micro.targets, &self.pass_options, &mut self.saved) {
                Err(error @ DecoderError::OutOfMemory { .. })
                    if self.make_smaller(examples.len(), &error) =>
                {
                    return Ok(false);
                }
                result => result.map_err(refused)?,
            };
        let loss = objective.loss(&micro, &logp);
        self.backward(&micro, &loss, position).map_err(refused)?;
        sums.loss += loss.sum;
        sums.weight += loss.weight;
        sums.tokens += micro.batch.len() as u64;
        sums.metrics.add(loss.metrics);
        if !loss.sum.is_finite() {
            let broken = examples.iter().zip(&micro.rows).filter(|(_, rows)| {
                logp.get((*rows).clone()).is_some_and(|logp| logp.iter().any(|logp| !logp.is_finite()))
            });
            let mut culprits: Vec<&O::Example> = broken.map(|(example, _)| *example).collect();
            if culprits.is_empty() {
                culprits = examples.to_vec();
            }
            return Err(self.not_finite("loss", loss.sum, &culprits, sums.weight));
        }
        Ok(true)
    }

    /// Adds the gradients of a pass; during the last one they are summed over the ranks.
    fn backward(
        &mut self,
        micro: &MicroBatch<O::Side>,
        loss: &Loss,
        position: PassPosition,
    ) -> Result<(), DecoderError> {
        let MicroBatch { batch, .. } = micro;
        let (decoder, saved, gradients) = (&*self.decoder, &mut self.saved, &mut self.gradients);
        if position == PassPosition::More || self.plan.world_size == 1 {
            return decoder.backward(&loss.d_logp, batch, saved, gradients);
        }
        summed(self.job.collective, decoder, gradients, |gradients, overlap| {
            decoder.backward_with(&loss.d_logp, batch, saved, gradients, &mut |layer, gradients| {
                overlap.block(layer, gradients);
            })
        })
    }

    /// Takes part in the sum of gradients without an example of its own: the last step of an epoch may be too small.
    fn sum_nothing(&mut self) {
        let layers = self.decoder.config().num_hidden_layers();
        summed(self.job.collective, self.decoder, &mut self.gradients, |gradients, overlap| {
            (0..layers).rev().for_each(|layer| overlap.block(layer, gradients));
        });
    }

    /// After a pass over `examples` that found no room: half as many of them in a pass and twice as many passes, or, where
    /// that cannot be or would not be the same, activations that are computed again. False when nothing is left to try.
    fn make_smaller(&mut self, examples: usize, error: &DecoderError) -> bool {
        let keeps_all = self.pass_options.checkpointing == Checkpointing::None;
        let divisible = self.job.objective.is_divisible();
        let change = if examples > 1 && (divisible || !keeps_all) {
            let before = self.micro_batch.min(examples);
            self.micro_batch = before / 2;
            let (now, times) = (self.micro_batch, before.div_ceil(before / 2));
            let same = if divisible {
                "the same result"
            } else {
                "each estimates `kl` itself, so the result differs a little"
            };
            format!("passes of {now} instead of {before} examples, {times} times as many: {same}")
        } else if keeps_all {
            self.pass_options.checkpointing = Checkpointing::Every(NonZeroUsize::MIN);
            "activations that are computed again (`gradient_checkpointing`): the same result, more slowly"
                .to_owned()
        } else {
            return false;
        };
        self.saved.release();
        self.tell(TrainEvent::Warning(format!("{error}; going on with {change}")));
        true
    }

    fn not_finite(
        &self,
        what: &'static str,
        value: f64,
        examples: &[&O::Example],
        weight: f64,
    ) -> TrainError {
        TrainError::NonFinite(Box::new(NonFinite {
            step: self.step + 1,
            what,
            value,
            rows: sources(self.job.objective, examples),
            gradient_norms: group_norms(self.decoder, &self.gradients, 1.0 / weight.max(1.0)),
            learning_rate: self.schedule.at(self.step),
            last_checkpoint: self.last_checkpoint(),
        }))
    }
}

fn sources<O: Objective>(objective: &O, examples: &[&O::Example]) -> Vec<String> {
    examples.iter().map(|example| objective.source(example)).collect()
}

/// Seed of the dropout masks and the noise of the pass whose first example is at `place` of the step.
fn pass_seed(seed: u64, step: u64, place: usize) -> u64 {
    let bytes: Vec<u8> = [seed, step, place as u64].iter().flat_map(|part| part.to_le_bytes()).collect();
    let digest = <sha2::Sha256 as sha2::Digest>::digest(&bytes);
    digest.iter().take(8).fold(0, |all, byte| all << 8 | u64::from(*byte))
}
