//! `training.lr_scheduler_type` and `training.lr_scheduler_kwargs`: HF's schedules, with HF's names for their
//! settings.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How the learning rate moves from step to step, after the warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SchedulerName {
    /// Linear decay to 0 at the last step.
    Linear,
    /// Half a cosine down to 0 at the last step.
    #[default]
    Cosine,
    /// Constant from the first step; warm-up keys are not read (as in HF).
    Constant,
    /// Constant after the warm-up.
    ConstantWithWarmup,
    /// `num_cycles` half cosines, each from the peak down to 0.
    CosineWithRestarts,
    /// Decay to `lr_end` at the last step, as the remaining share of the run to the power `power`.
    Polynomial,
    /// Inverse square root of the steps done; independent of the length of the run.
    InverseSqrt,
    /// Half a cosine down to `min_lr`, or to the share `min_lr_rate` of the peak.
    CosineWithMinLr,
    /// A plateau, then decay over the last `num_decay_steps` steps.
    WarmupStableDecay,
}

impl SchedulerName {
    /// The name in a config file.
    pub fn name(self) -> &'static str {
        match self {
            SchedulerName::Linear => "linear",
            SchedulerName::Cosine => "cosine",
            SchedulerName::Constant => "constant",
            SchedulerName::ConstantWithWarmup => "constant_with_warmup",
            SchedulerName::CosineWithRestarts => "cosine_with_restarts",
            SchedulerName::Polynomial => "polynomial",
            SchedulerName::InverseSqrt => "inverse_sqrt",
            SchedulerName::CosineWithMinLr => "cosine_with_min_lr",
            SchedulerName::WarmupStableDecay => "warmup_stable_decay",
        }
    }

    /// The keys of [`LrSchedulerKwargs`] that it takes.
    pub fn kwargs(self) -> &'static [&'static str] {
        match self {
            SchedulerName::Linear | SchedulerName::Constant | SchedulerName::ConstantWithWarmup => &[],
            SchedulerName::Cosine | SchedulerName::CosineWithRestarts => &["num_cycles"],
            SchedulerName::Polynomial => &["power", "lr_end"],
            SchedulerName::InverseSqrt => &["timescale"],
            SchedulerName::CosineWithMinLr => &["num_cycles", "min_lr", "min_lr_rate"],
            SchedulerName::WarmupStableDecay => &[
                "num_decay_steps",
                "num_stable_steps",
                "warmup_type",
                "decay_type",
                "min_lr_ratio",
                "num_cycles",
            ],
        }
    }
}

/// Shape of the change from one rate to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Ramp {
    /// Linear.
    #[serde(rename = "linear")]
    Linear,
    /// Half a cosine.
    #[serde(rename = "cosine")]
    Cosine,
    /// One minus a root.
    #[serde(rename = "1-sqrt")]
    OneMinusSqrt,
}

/// Further settings of a schedule. Null is the default that is named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LrSchedulerKwargs {
    /// `cosine`, `cosine_with_min_lr`, `warmup_stable_decay`: waves of the cosine; 0.5, half a wave, when null.
    /// `cosine_with_restarts`: half waves; 1 when null.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub num_cycles: Option<f64>,
    /// `polynomial`: the power; 1 when null.
    #[schemars(range(min = 0))]
    pub power: Option<f64>,
    /// `polynomial`: the rate at the end, below the learning rate; 1e-7 when null.
    #[schemars(range(min = 0))]
    pub lr_end: Option<f64>,
    /// `inverse_sqrt`: steps after which the rate is down to the share 1/√2; the warm-up, or 10000 without
    /// one, when null.
    #[schemars(range(min = 1))]
    pub timescale: Option<u64>,
    /// `cosine_with_min_lr`: the lowest rate. This or `min_lr_rate` is needed.
    #[schemars(range(min = 0))]
    pub min_lr: Option<f64>,
    /// `cosine_with_min_lr`: the same as a share of the learning rate.
    #[schemars(range(min = 0, max = 1))]
    pub min_lr_rate: Option<f64>,
    /// `warmup_stable_decay`: steps of the way down; needed.
    pub num_decay_steps: Option<u64>,
    /// `warmup_stable_decay`: steps of the plateau; what the warm-up and the way down leave when null. After all
    /// three the rate stays at `min_lr_ratio`.
    pub num_stable_steps: Option<u64>,
    /// `warmup_stable_decay`: the way up; `linear` when null.
    pub warmup_type: Option<Ramp>,
    /// `warmup_stable_decay`: the way down; `cosine` when null.
    pub decay_type: Option<Ramp>,
    /// `warmup_stable_decay`: the rate at both ends, as a share of the learning rate; 0 when null.
    #[schemars(range(min = 0, max = 1))]
    pub min_lr_ratio: Option<f64>,
}

impl LrSchedulerKwargs {
    /// The settings that are not null, as JSON, in the order above: `{"min_lr":1e-6}`.
    pub fn set(&self) -> serde_json::Map<String, Value> {
        match serde_json::to_value(self) {
            Ok(Value::Object(map)) => map.into_iter().filter(|(_, value)| !value.is_null()).collect(),
            _ => serde_json::Map::new(),
        }
    }

    /// Problems under schedule `kind` and peak rate `learning_rate`: a key and a sentence each.
    pub(super) fn problems(&self, kind: SchedulerName, learning_rate: f64) -> Vec<(String, String)> {
        let mut found: Vec<(String, String)> = Vec::new();
        let mut wrong = |key: &str, message: String| found.push((key.to_owned(), message));
        let taken = kind.kwargs();
        for key in self.set().keys().filter(|key| !taken.contains(&key.as_str())) {
            let instead = match taken {
                [] => "takes no such settings".to_owned(),
                _ => format!("takes {}", taken.join(", ")),
            };
            wrong(key, format!("`lr_scheduler_type: {}` does not take it; it {instead}", kind.name()));
        }
        let limits = [
            ("num_cycles", self.num_cycles, f64::MIN_POSITIVE, f64::MAX, "above 0"),
            ("power", self.power, 0.0, f64::MAX, "0 or above"),
            ("lr_end", self.lr_end, 0.0, f64::MAX, "0 or above"),
            ("min_lr", self.min_lr, 0.0, f64::MAX, "0 or above"),
            ("min_lr_rate", self.min_lr_rate, 0.0, 1.0, "0 to 1"),
            ("min_lr_ratio", self.min_lr_ratio, 0.0, 1.0, "0 to 1"),
        ];
        for (key, value, low, high, range) in limits {
            // NaN is in no range.
            if let Some(value) = value.filter(|value| !(low..=high).contains(value)) {
                wrong(key, format!("it is {value}; it must be {range}"));
            }
        }
        if self.timescale == Some(0) {
            wrong("timescale", "it is 0; it must be at least 1".to_owned());
        }
        match kind {
            SchedulerName::Polynomial => {
                let end = self.lr_end.unwrap_or(LR_END);
                if end >= learning_rate {
                    let message =
                        format!("it is {end:?}, but the rate falls from {learning_rate:?}; choose one below");
                    wrong("lr_end", message);
                }
            }
            SchedulerName::CosineWithMinLr => match (self.min_lr, self.min_lr_rate) {
                (None, None) => {
                    let message = "`cosine_with_min_lr` needs it, or `min_lr_rate`: the lowest rate";
                    wrong("min_lr", message.to_owned());
                }
                (Some(_), Some(_)) => {
                    wrong("min_lr_rate", "`min_lr` is set too; choose one of them".to_owned())
                }
                (Some(rate), None) if rate > learning_rate => {
                    wrong("min_lr", format!("it is {rate:?}, above the learning rate {learning_rate:?}"));
                }
                _ => {}
            },
            SchedulerName::WarmupStableDecay if self.num_decay_steps.is_none() => {
                let message =
                    "`warmup_stable_decay` needs it: how many of the last steps the rate falls over";
                wrong("num_decay_steps", message.to_owned());
            }
            _ => {}
        }
        found
    }
}

/// HF's default of `lr_end`.
pub(crate) const LR_END: f64 = 1e-7;
