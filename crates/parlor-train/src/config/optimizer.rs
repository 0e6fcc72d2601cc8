//! `training.optimizer`: the rule that turns gradients into updates.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The rule that turns gradients into updates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OptimizerName {
    /// AdamW in PyTorch's arithmetic, with f32 moments.
    #[default]
    AdamwTorch,
    /// Plain stochastic gradient descent.
    Sgd,
    /// AdamW with 8-bit moments (not in this build yet).
    #[serde(rename = "adamw_8bit")]
    Adamw8bit,
    /// Adafactor (not in this build yet).
    Adafactor,
    /// Lion (not in this build yet).
    Lion,
    /// Muon (not in this build yet).
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
}
