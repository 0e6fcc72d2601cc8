//! Which evaluation is the best: `training.metric_for_best_model` and `training.greater_is_better`.

use super::training::TrainingConfig;

/// The metric that decides which evaluation is the best, and so what `best/` holds and when early stopping stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BestMetric<'a> {
    /// Name of the metric, without `eval_`.
    pub name: &'a str,
    /// Whether higher values are better.
    pub greater_is_better: bool,
}

impl BestMetric<'_> {
    /// How much better `value` is than `best`; negative when it is worse.
    pub fn gain(&self, value: f64, best: f64) -> f64 {
        if self.greater_is_better { value - best } else { best - value }
    }
}

impl TrainingConfig {
    /// The metric that decides.
    pub fn best_metric(&self) -> BestMetric<'_> {
        let name = self.metric_for_best_model.as_deref().unwrap_or("loss");
        let name = name.strip_prefix("eval_").unwrap_or(name);
        let lower = ["loss", "perplexity"].iter().any(|end| name.ends_with(end));
        BestMetric { name, greater_is_better: self.greater_is_better.unwrap_or(!lower) }
    }
}
