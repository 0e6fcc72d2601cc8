//! `training.dpo`: direct preference optimisation (Rafailov et al., 2023). Typed here; the objective comes later.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::hyperparameters::training_section;

/// The loss on the margin between the chosen and the rejected answer (TRL's names).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DpoLoss {
    /// `-log sigmoid(beta * margin)`.
    #[default]
    Sigmoid,
    /// `max(0, 1 - beta * margin)`.
    Hinge,
    /// Squared distance of the length-averaged margin from `1 / (2 beta)`.
    Ipo,
    /// Sigmoid made unbiased for a share `label_smoothing` of swapped labels.
    Robust,
}

training_section! {
    /// Training on preference pairs (not in this build yet).
    DpoConfig {
        num_train_epochs: 1,
        per_device_train_batch_size: 2,
        learning_rate: 1e-6,
        /// Strength of the pull towards the reference model; lower moves further away from it.
        #[schemars(extend("exclusiveMinimum" = 0))]
        beta: f64 = 0.1,
        /// Longest prompt, in tokens; longer ones lose their beginning.
        #[schemars(range(min = 1))]
        max_prompt_length: usize = 512,
        /// Loss on the margin: `sigmoid`, `hinge`, `ipo` or `robust`.
        loss_type: DpoLoss = DpoLoss::Sigmoid,
        /// Assumed share of pairs whose labels are swapped.
        #[schemars(range(min = 0, max = 0.5))]
        label_smoothing: f64 = 0.0,
        /// Model to measure against; null is the model as it was before training.
        reference_model_path: Option<PathBuf> = None,
    }
}
