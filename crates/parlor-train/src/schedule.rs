//! The learning rate as a pure function of the step.
//!
//! Source: `transformers.get_scheduler` (`optimization.py`), whose numbers the tests compare with, also where
//! the warm-up is longer than the run. Leaves out the schedules that react to the loss.

use std::f64::consts::PI;

use crate::config::{LR_END, LrSchedulerKwargs, Ramp, SchedulerName};

/// A learning-rate schedule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// Shape after the warm-up.
    pub kind: SchedulerName,
    /// Settings of the shape. Settings of other shapes are not read; [`crate::config::problems`] refuses them.
    pub kwargs: LrSchedulerKwargs,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Steps of the warm-up.
    pub warmup_steps: u64,
    /// Steps of the whole run.
    pub total_steps: u64,
}

impl Schedule {
    /// The learning rate of the update that follows `step` completed updates: `at(0)` is the first one's.
    pub fn at(&self, step: u64) -> f64 {
        self.learning_rate * self.factor(step)
    }

    /// The same as a share of the peak, which multiplies the rate of every parameter group.
    pub fn factor(&self, step: u64) -> f64 {
        let Self { kind, kwargs, .. } = *self;
        if kind == SchedulerName::Constant {
            return 1.0;
        }
        if step < self.warmup_steps {
            let progress = step as f64 / self.warmup_steps.max(1) as f64;
            return match kind {
                SchedulerName::WarmupStableDecay => {
                    floored(up(kwargs.warmup_type.unwrap_or(Ramp::Linear), progress), self.min_lr_ratio())
                }
                _ => progress,
            };
        }
        let since = (step - self.warmup_steps) as f64;
        let progress = since / self.total_steps.saturating_sub(self.warmup_steps).max(1) as f64;
        match kind {
            SchedulerName::Constant | SchedulerName::ConstantWithWarmup => 1.0,
            SchedulerName::Linear => {
                let rest = self.total_steps.saturating_sub(self.warmup_steps).max(1) as f64;
                self.total_steps.saturating_sub(step) as f64 / rest
            }
            SchedulerName::Cosine => wave(kwargs.num_cycles, progress).max(0.0),
            SchedulerName::CosineWithRestarts if progress >= 1.0 => 0.0,
            SchedulerName::CosineWithRestarts => {
                let within = (kwargs.num_cycles.unwrap_or(1.0) * progress) % 1.0;
                (0.5 * (1.0 + (PI * within).cos())).max(0.0)
            }
            SchedulerName::Polynomial => {
                let end = kwargs.lr_end.unwrap_or(LR_END);
                if step >= self.total_steps {
                    return end / self.learning_rate;
                }
                let left = (1.0 - progress).powf(kwargs.power.unwrap_or(1.0));
                ((self.learning_rate - end) * left + end) / self.learning_rate
            }
            SchedulerName::InverseSqrt => {
                let without_warmup = if self.warmup_steps == 0 { 10_000 } else { self.warmup_steps };
                let timescale = kwargs.timescale.unwrap_or(without_warmup).max(1) as f64;
                1.0 / ((since + timescale) / timescale).sqrt()
            }
            SchedulerName::CosineWithMinLr => {
                let rate = kwargs.min_lr_rate.unwrap_or(kwargs.min_lr.unwrap_or(0.0) / self.learning_rate);
                floored(wave(kwargs.num_cycles, progress), rate)
            }
            SchedulerName::WarmupStableDecay => self.stable_decay(since),
        }
    }

    /// The factor `since` steps after the warm-up. The plateau has a negative length when warm-up and decay
    /// together are longer than the run; the decay then starts partway.
    fn stable_decay(&self, since: f64) -> f64 {
        let LrSchedulerKwargs { num_cycles, num_decay_steps, num_stable_steps, decay_type, .. } = self.kwargs;
        let decay = num_decay_steps.unwrap_or(0) as f64;
        let stable = match num_stable_steps {
            Some(steps) => steps as f64,
            None => self.total_steps as f64 - self.warmup_steps as f64 - decay,
        };
        if since < stable {
            return 1.0;
        }
        if since >= stable + decay {
            return self.min_lr_ratio();
        }
        let progress = (since - stable) / decay.max(1.0);
        let factor = match decay_type.unwrap_or(Ramp::Cosine) {
            Ramp::Linear => 1.0 - progress,
            Ramp::Cosine => wave(num_cycles, progress),
            Ramp::OneMinusSqrt => 1.0 - progress.sqrt(),
        };
        floored(factor, self.min_lr_ratio())
    }

    fn min_lr_ratio(&self) -> f64 {
        self.kwargs.min_lr_ratio.unwrap_or(0.0)
    }

    /// Whether the rate at a given step depends on how many steps there are in all.
    pub fn depends_on_total(kind: SchedulerName, kwargs: &LrSchedulerKwargs) -> bool {
        match kind {
            SchedulerName::Constant | SchedulerName::ConstantWithWarmup | SchedulerName::InverseSqrt => false,
            SchedulerName::WarmupStableDecay => kwargs.num_stable_steps.is_none(),
            _ => true,
        }
    }
}

fn up(ramp: Ramp, progress: f64) -> f64 {
    match ramp {
        Ramp::Linear => progress,
        Ramp::Cosine => 0.5 * (1.0 - (PI * progress).cos()),
        Ramp::OneMinusSqrt => 1.0 - (1.0 - progress).sqrt(),
    }
}

/// A cosine of `num_cycles` waves (half a wave unless set) that starts at 1, at `progress` of its length.
fn wave(num_cycles: Option<f64>, progress: f64) -> f64 {
    0.5 * (1.0 + (PI * num_cycles.unwrap_or(0.5) * 2.0 * progress).cos())
}

/// Maps `factor` from the range 0 to 1 to the range `floor` to 1.
fn floored(factor: f64, floor: f64) -> f64 {
    (factor * (1.0 - floor) + floor).max(0.0)
}
