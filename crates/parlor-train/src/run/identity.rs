//! What the numbers of a run depend on: its settings, data, tokenizer and template.

use super::Run;
use crate::artifacts::TEMPLATE_DATE;
use crate::checkpoint::Identity;
use crate::config::TrainingType;
use crate::trainer::LoopConfig;

impl Run {
    /// What the numbers of the run depend on, except for its reference model.
    pub(super) fn identity(&self) -> Identity {
        let Run { config: LoopConfig { training, .. }, model, plan, text, data, .. } = self;
        let mut identity = Identity::of_training(training, plan);
        match training.training_type {
            TrainingType::FromScratch => {
                let section = &training.from_scratch;
                identity.add("training.from_scratch.size", section.size.name());
                let block = serde_json::to_string(&section.architecture).unwrap_or_default();
                identity.add("training.from_scratch.architecture", block);
                identity.add("training.from_scratch.vocab_size", section.vocab_size);
            }
            _ => identity.add("model.name", &model.name),
        }
        if let Some(format) = model.quantization() {
            identity.add("format of the frozen weights (model.load_in_4bit and so on)", format.name());
        }
        identity.add("training data (SHA-256 of the examples)", &data.train_sha256);
        identity.add("tokenizer (SHA-256)", text.tokenizer.content_hash());
        if let Some(template) = &text.template {
            identity.add("chat template (SHA-256)", template.content_hash());
        }
        if let Some(date) = text.template_date() {
            identity.add(TEMPLATE_DATE, date);
        }
        identity
    }
}
