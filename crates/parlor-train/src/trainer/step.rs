//! One step: forward and backward over its examples in passes, this rank's share of them, and the update.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::ops::Range;

use parlor_model::{Checkpointing, DecoderError};
use parlor_text::epoch_order;

use super::Trainer;
use super::clip::{clip_factor, group_norms};
use crate::data::ExampleSource;
use crate::distributed::sum_overlapped;
use crate::error::{NonFinite, TrainError};
use crate::event::TrainEvent;
use crate::objective::{Loss, MetricSums, MicroBatch, Objective};

/// Metrics of a step.
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

/// Whether more passes add to the gradients after this one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PassPosition {
    More,
    Last,
}

impl<O: Objective> Trainer<'_, O> {
    /// Takes one optimizer step.
    ///
    /// # Errors
    /// A loss or gradient that is not finite, or a pass that does not fit.
    pub(super) fn take_step(&mut self) -> Result<StepResult, TrainError> {
        let epoch = self.plan.epoch(self.step);
        let (places, streamed) = (self.plan.places(self.step), &mut Vec::new());
        let chosen: Vec<&O::Example> = match &mut self.examples.train {
            ExampleSource::InMemory(examples) => {
                let examples = *examples;
                if self.order.0 != epoch {
                    self.order = (epoch, epoch_order(examples.len(), self.config.training.seed, epoch));
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
            self.sum_no_gradients();
        } else {
            self.gradients.zero_lazily();
        }
        while let Some(pass) = passes.pop_front() {
            let end = pass.end.min(pass.start + self.micro_batch);
            if end < pass.end {
                passes.push_front(end..pass.end);
            }
            let position = if passes.is_empty() { PassPosition::Last } else { PassPosition::More };
            if !self.pass(&chosen, pass.start..end, position, &mut sums)? {
                passes.push_front(pass.start..end);
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
        let scale = clip_factor(grad_norm, self.config.hyper.max_grad_norm) * mean;
        let factor = self.schedule.factor(self.step);
        self.optimizer.update(self.decoder, &self.gradients, scale as f32, factor)?;
        if self.plan.world_size > 1 {
            self.optimizer.share_parameters(self.decoder, self.collective());
        }
        self.step += 1;
        self.totals.tokens += tokens as u64;
        self.totals.loss_sum += sum;
        self.totals.weight += weight;
        let metrics = sums.metrics.means(self.examples.objective);
        Ok(StepResult { loss: sum * mean, learning_rate, grad_norm, metrics })
    }

    /// Forward and backward over the step's examples at `places`. False, with nothing added, when memory ran
    /// out and the pass is to be repeated with smaller settings.
    fn pass(
        &mut self,
        chosen: &[&O::Example],
        places: Range<usize>,
        position: PassPosition,
        sums: &mut StepSums,
    ) -> Result<bool, TrainError> {
        // Each pass has its own random numbers, the same whenever the step is repeated.
        self.pass_options.seed = Some(pass_seed(self.config.training.seed, self.step, places.start));
        let examples = &chosen[places];
        let objective = self.examples.objective;
        let micro = objective.collate(examples, chosen);
        let refused = |source: DecoderError| TrainError::Batch {
            rows: sources(objective, examples),
            source: Box::new(source),
        };
        let logp = match self.decoder.logprobs(
            &micro.batch,
            &micro.targets,
            &self.pass_options,
            &mut self.workspace,
        ) {
            Err(error @ DecoderError::OutOfMemory { .. }) if self.reduce_memory(examples.len(), &error) => {
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
            let non_finite = examples.iter().zip(&micro.rows).filter(|(_, rows)| {
                logp.get((*rows).clone()).is_some_and(|logp| logp.iter().any(|logp| !logp.is_finite()))
            });
            let mut broken: Vec<&O::Example> = non_finite.map(|(example, _)| *example).collect();
            if broken.is_empty() {
                broken = examples.to_vec();
            }
            return Err(self.not_finite("loss", loss.sum, &broken, sums.weight));
        }
        Ok(true)
    }

    /// Adds the gradients of a pass; the last pass also sums them over the ranks, overlapped with the
    /// computation.
    fn backward(
        &mut self,
        micro: &MicroBatch<O::Side>,
        loss: &Loss,
        position: PassPosition,
    ) -> Result<(), DecoderError> {
        let MicroBatch { batch, .. } = micro;
        let collective = self.collective();
        let (decoder, workspace, gradients) = (&*self.decoder, &mut self.workspace, &mut self.gradients);
        if position == PassPosition::More || self.plan.world_size == 1 {
            return decoder.backward(&loss.d_logp, batch, workspace, gradients);
        }
        sum_overlapped(collective, decoder, gradients, |gradients, buckets| {
            decoder.backward_with(&loss.d_logp, batch, workspace, gradients, &mut |layer, gradients| {
                buckets.block(layer, gradients);
            })
        })
    }

    /// Takes part in the sum of gradients without examples: the last step of an epoch may be too small for
    /// all ranks.
    fn sum_no_gradients(&mut self) {
        let layers = self.decoder.config().num_hidden_layers();
        sum_overlapped(self.collective(), self.decoder, &mut self.gradients, |gradients, buckets| {
            (0..layers).rev().for_each(|layer| buckets.block(layer, gradients));
        });
    }

    /// After a pass over `examples` that ran out of memory: halves the pass, or, where that is impossible or
    /// would change the result, recomputes activations. False when nothing is left to try.
    fn reduce_memory(&mut self, examples: usize, error: &DecoderError) -> bool {
        let keeps_all = self.pass_options.checkpointing == Checkpointing::None;
        let divisible = self.examples.objective.is_divisible();
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
        self.workspace.release();
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
            rows: sources(self.examples.objective, examples),
            gradient_norms: group_norms(self.decoder, &self.gradients, 1.0 / weight.max(1.0)),
            learning_rate: self.schedule.at(self.step),
            last_checkpoint: self.last_checkpoint(),
        }))
    }
}

fn sources<O: Objective>(objective: &O, examples: &[&O::Example]) -> Vec<String> {
    examples.iter().map(|example| objective.source(example)).collect()
}

/// Seed of dropout masks and noise of the pass whose first example is at `place` of the step.
fn pass_seed(seed: u64, step: u64, place: usize) -> u64 {
    let bytes: Vec<u8> = [seed, step, place as u64].iter().flat_map(|part| part.to_le_bytes()).collect();
    let digest = <sha2::Sha256 as sha2::Digest>::digest(&bytes);
    digest.iter().take(8).fold(0, |all, byte| all << 8 | u64::from(*byte))
}
