//! `training.optimizer`, `training.optim_args` and `training.param_groups`: the rule that turns gradients
//! into updates.

use regex::Regex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The rule that turns gradients into updates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OptimizerName {
    /// AdamW in PyTorch's arithmetic, with f32 moments: 8 bytes a parameter.
    #[default]
    AdamwTorch,
    /// Stochastic gradient descent, with `optim_args.momentum` if any.
    Sgd,
    /// AdamW with 8-bit moments as in bitsandbytes: 2 bytes a parameter.
    #[serde(rename = "adamw_8bit")]
    Adamw8bit,
    /// Adafactor with a given learning rate: next to nothing for a matrix. `adam_*` keys are not read.
    Adafactor,
    /// Lion: 4 bytes a parameter. Takes a learning rate three to ten times lower than AdamW's, and
    /// `adam_beta1` and `adam_beta2` as its decays, for which its authors use 0.9 and 0.99.
    Lion,
    /// Muon for the matrices of the blocks, 4 bytes a parameter, and AdamW for embeddings, head, norms and
    /// biases.
    Muon,
}

impl OptimizerName {
    /// The name in a config file.
    pub fn name(self) -> &'static str {
        match self {
            OptimizerName::AdamwTorch => "adamw_torch",
            OptimizerName::Sgd => "sgd",
            OptimizerName::Adamw8bit => "adamw_8bit",
            OptimizerName::Adafactor => "adafactor",
            OptimizerName::Lion => "lion",
            OptimizerName::Muon => "muon",
        }
    }

    /// The keys of [`OptimArgs`] that it takes.
    pub fn args(self) -> &'static [&'static str] {
        match self {
            OptimizerName::Sgd => &["momentum"],
            OptimizerName::Muon => &["momentum", "nesterov", "ns_steps", "adjust_lr_fn"],
            _ => &[],
        }
    }
}

/// How Muon's learning rate depends on a matrix's shape (PyTorch's names).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AdjustLrFn {
    /// Times the root of rows over columns, where that is above 1.
    Original,
    /// Times 0.2 and the root of the longer side: updates as large as AdamW's, for the same learning rate.
    #[default]
    MatchRmsAdamw,
}

/// Further settings of an optimizer. Null is the default that is named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OptimArgs {
    /// `sgd`, `muon`: decay of the momentum; when null 0 and 0.95.
    #[schemars(range(min = 0, max = 1))]
    pub momentum: Option<f64>,
    /// `muon`: Nesterov's momentum; true when null.
    pub nesterov: Option<bool>,
    /// `muon`: Newton-Schulz iterations; 5 when null.
    #[schemars(range(min = 1, max = 99))]
    pub ns_steps: Option<u32>,
    /// `muon`: `match_rms_adamw` (when null) or `original`.
    pub adjust_lr_fn: Option<AdjustLrFn>,
}

impl OptimArgs {
    /// The settings that are not null, as JSON.
    pub fn set(&self) -> serde_json::Map<String, Value> {
        match serde_json::to_value(self) {
            Ok(Value::Object(map)) => map.into_iter().filter(|(_, value)| !value.is_null()).collect(),
            _ => serde_json::Map::new(),
        }
    }

    /// Problems under `optimizer`: a key and a sentence each.
    pub(super) fn problems(&self, optimizer: OptimizerName) -> Vec<(String, String)> {
        let taken = optimizer.args();
        let takes = match taken {
            [] => "takes no such settings".to_owned(),
            _ => format!("takes {}", taken.join(", ")),
        };
        let mut found: Vec<(String, String)> = self
            .set()
            .keys()
            .filter(|key| !taken.contains(&key.as_str()))
            .map(|key| (key.clone(), format!("`optimizer: {}` {takes}", optimizer.name())))
            .collect();
        if let Some(momentum) = self.momentum.filter(|momentum| !(0.0..1.0).contains(momentum)) {
            found.push(("momentum".to_owned(), format!("it is {momentum}; it must be 0 or above, below 1")));
        }
        if let Some(steps) = self.ns_steps.filter(|steps| !(1..100).contains(steps)) {
            found.push(("ns_steps".to_owned(), format!("it is {steps}; it must be 1 to 99")));
        }
        found
    }
}

/// Parameters with a learning rate or a weight decay of their own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ParamGroup {
    /// A regular expression that is searched for in parameters' names, such as `^embed_tokens`, `^layers\.0\.`,
    /// `lm_head`, `q_proj` or `lora_B`.
    pub pattern: String,
    /// Peak learning rate of these parameters. Null: the training type's.
    #[serde(default)]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub learning_rate: Option<f64>,
    /// Weight decay of these parameters, biases and norm weights among them too. Null: the training type's,
    /// of matrices.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub weight_decay: Option<f64>,
}

/// Problems of the groups themselves: a key below `training.` and a sentence each.
pub(super) fn group_problems(groups: &[ParamGroup]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (index, group) in groups.iter().enumerate() {
        let mut wrong =
            |key: &str, message: String| found.push((format!("param_groups.{index}.{key}"), message));
        if let Err(error) = Regex::new(&group.pattern) {
            // The last line of the message names the problem.
            let error = error.to_string();
            let error = error.lines().next_back().unwrap_or_default().trim_start_matches("error: ");
            wrong("pattern", format!("it is not a regular expression: {error}"));
        }
        if let Some(rate) = group.learning_rate.filter(|rate| !(rate.is_finite() && *rate > 0.0)) {
            wrong("learning_rate", format!("it is {rate}; it must be a number above 0"));
        }
        if let Some(decay) = group.weight_decay.filter(|decay| !(decay.is_finite() && *decay >= 0.0)) {
            wrong("weight_decay", format!("it is {decay}; it must be 0 or above"));
        }
        if group.learning_rate.is_none() && group.weight_decay.is_none() {
            wrong(
                "learning_rate",
                "neither it nor `weight_decay` is set: the group changes nothing".to_owned(),
            );
        }
    }
    found
}
