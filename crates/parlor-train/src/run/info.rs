//! Description of a run for its record: versions, hashes, seeds, parameters.

use parlor_text::ChatTemplate;
use parlor_track::RunInfo;
use serde::Serialize;
use serde_json::{Value, json};

use super::Run;

impl Run {
    /// The description of the run for its record.
    pub(super) fn info(&self) -> RunInfo {
        let training = &self.config.training;
        let (template_sha256, template_date) =
            (self.text.template.as_ref().map(ChatTemplate::content_hash), self.text.template_date());
        let mut info = RunInfo { template_sha256, template_date, ..RunInfo::default() };
        info.versions.insert("parlor".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
        info.seeds.insert("training.seed".to_owned(), training.seed);
        info.data_sha256.insert("training examples".to_owned(), self.data.train_sha256.clone());
        if let Some(sha256) = &self.data.eval_sha256 {
            info.data_sha256.insert("evaluation examples".to_owned(), sha256.clone());
        }
        info.data_sha256.insert("tokenizer".to_owned(), self.text.tokenizer.content_hash().to_owned());
        // Sections of training types other than the one in force are left out.
        let in_force = training.training_type.name();
        let is_recorded =
            |key: &str| key == in_force || !["from_scratch", "sft", "dpo", "lora"].contains(&key);
        if let Value::Object(mut section) = as_json(training) {
            section.retain(|key, _| is_recorded(key));
            info.add_params("training", &Value::Object(section));
        }
        for (name, section) in [("model", as_json(&self.model)), ("data", as_json(&self.data_config))] {
            info.add_params(name, &section);
        }
        let report = self.data.train_report.as_ref();
        info.add_params(
            "run",
            &json!({
                "parameters": self.decoder.parameter_count(),
                "total_steps": self.plan.total_steps,
                "train_examples": report.map(|report| report.examples),
                "train_tokens": report.map(|report| report.total_tokens),
                "trained_tokens": report.map(|report| report.trained_tokens),
                "eval_examples": self.data.eval_examples,
                "config_sha256": self.config.identity.sha256(),
            }),
        );
        info
    }
}

/// A section of the config as JSON; it is made of plain values, so this cannot fail.
fn as_json<T: Serialize>(section: &T) -> Value {
    serde_json::to_value(section).unwrap_or_default()
}
