//! How examples become optimizer steps: counts, and which positions of an epoch's order a step takes.
//!
//! A step never spans two epochs, so the last one of an epoch may be smaller (as in HF's `Trainer` without
//! `drop_last`). The order itself is `parlor_text::epoch_order`, a function of seed and epoch alone.

use std::collections::VecDeque;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::config::Hyperparameters;

/// The counts of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepPlan {
    /// Training examples.
    pub examples: usize,
    /// Examples per forward pass.
    pub batch_size: usize,
    /// Forward passes per step, of each rank.
    pub accumulation: usize,
    /// Ranks that share a step.
    pub world_size: usize,
    /// Optimizer steps per epoch.
    pub steps_per_epoch: u64,
    /// Optimizer steps in all.
    pub total_steps: u64,
    /// Steps of the learning rate's warm-up.
    pub warmup_steps: u64,
}

impl StepPlan {
    /// The plan for `examples` examples (at least one) over `world_size` ranks.
    pub fn new(examples: usize, hyper: &Hyperparameters, world_size: usize) -> Self {
        let batch_size = hyper.per_device_train_batch_size.max(1);
        let accumulation = hyper.gradient_accumulation_steps.max(1);
        let world_size = world_size.max(1);
        let per_step = batch_size.saturating_mul(accumulation).saturating_mul(world_size);
        let steps_per_epoch = examples.div_ceil(per_step).max(1) as u64;
        let total_steps = match u64::try_from(hyper.max_steps) {
            Ok(steps) if steps > 0 => steps,
            _ => steps_per_epoch.saturating_mul(u64::from(hyper.num_train_epochs)),
        };
        let warmup_steps = match hyper.warmup_steps {
            0 => (total_steps as f64 * hyper.warmup_ratio).ceil() as u64,
            steps => steps,
        };
        Self { examples, batch_size, accumulation, world_size, steps_per_epoch, total_steps, warmup_steps }
    }

    /// Number of examples of a run whose number of steps is given.
    pub fn examples_of(hyper: &Hyperparameters, world_size: usize) -> usize {
        let per_step = Self::new(1, hyper, world_size).per_step();
        per_step.saturating_mul(usize::try_from(hyper.max_steps).unwrap_or(0))
    }

    /// Examples of a step.
    fn per_step(&self) -> usize {
        self.batch_size.saturating_mul(self.accumulation).saturating_mul(self.world_size)
    }

    /// Epoch that step `step` (from 0) belongs to.
    pub fn epoch(&self, step: u64) -> u64 {
        step / self.steps_per_epoch
    }

    /// Epochs completed after `steps` steps, as a fraction.
    pub fn epochs_done(&self, steps: u64) -> f64 {
        steps as f64 / self.steps_per_epoch as f64
    }

    /// Whether `steps` completed steps end an epoch.
    pub fn ends_epoch(&self, steps: u64) -> bool {
        steps > 0 && steps.is_multiple_of(self.steps_per_epoch)
    }

    /// Positions within the epoch's order that step `step` (from 0) takes.
    pub fn places(&self, step: u64) -> Range<usize> {
        let per_step = self.per_step();
        let start = ((step % self.steps_per_epoch) as usize).saturating_mul(per_step).min(self.examples);
        start..start.saturating_add(per_step).min(self.examples)
    }

    /// The passes that `rank` makes of a step of `examples` examples, as positions in the step. Passes go to
    /// the ranks round-robin, as `DistributedSampler` distributes examples.
    pub fn own_passes(&self, examples: usize, rank: usize) -> VecDeque<Range<usize>> {
        let starts = (0..examples).step_by(self.batch_size).skip(rank).step_by(self.world_size);
        starts.map(|start| start..examples.min(start.saturating_add(self.batch_size))).collect()
    }
}
