//! `training.sft`: supervised fine-tuning.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::hyperparameters::training_section;

/// Which tokens of a dialogue are trained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TrainOn {
    /// Those that the assistant says.
    #[default]
    AssistantOnly,
    /// All of them.
    All,
}

impl From<TrainOn> for parlor_text::TrainOn {
    fn from(rule: TrainOn) -> Self {
        match rule {
            TrainOn::AssistantOnly => parlor_text::TrainOn::AssistantOnly,
            TrainOn::All => parlor_text::TrainOn::All,
        }
    }
}

training_section! {
    /// Supervised fine-tuning of the model that `model.name` names. Trains an adapter when
    /// `training.lora.enabled` is true, every weight when it is false.
    SftConfig {
        num_train_epochs: 3,
        per_device_train_batch_size: 4,
        learning_rate: 2e-5,
        /// Which tokens are trained: `assistant_only` (of dialogues, the assistant's turns; of prompt and
        /// completion, the completion; of plain text, all) or `all`.
        train_on: TrainOn = TrainOn::AssistantOnly,
    }
}
