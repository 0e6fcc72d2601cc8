//! The learning rate as a pure function of the step.
//!
//! Source: `transformers.get_scheduler` (`optimization.py`), whose numbers the tests compare with. Leaves out the
//! schedules that the config types but [`crate::config::unsupported`] refuses.

use crate::config::SchedulerName;

/// A learning-rate schedule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// Shape after the warm-up.
    pub kind: SchedulerName,
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

    fn factor(&self, step: u64) -> f64 {
        if self.kind == SchedulerName::Constant {
            return 1.0;
        }
        if step < self.warmup_steps {
            return step as f64 / self.warmup_steps.max(1) as f64;
        }
        let rest = self.total_steps.saturating_sub(self.warmup_steps).max(1) as f64;
        match self.kind {
            SchedulerName::Linear => (self.total_steps.saturating_sub(step) as f64 / rest).max(0.0),
            SchedulerName::Cosine => {
                let progress = (step - self.warmup_steps) as f64 / rest;
                (0.5 * (1.0 + (std::f64::consts::PI * progress).cos())).max(0.0)
            }
            // The others are refused before a run starts; a constant rate is what is left of them here.
            _ => 1.0,
        }
    }

    /// Whether the rate at a given step depends on how many steps there are in all.
    pub fn depends_on_total(kind: SchedulerName) -> bool {
        !matches!(kind, SchedulerName::Constant | SchedulerName::ConstantWithWarmup)
    }
}
