//! What the numbers of a run depend on. A resumed run must agree on all of it, or it would not end as the
//! uninterrupted run does.
//!
//! Included: seed, training type, precision, optimizer, schedule and its length, batch size and accumulation,
//! learning rate, decay, betas, clipping, warm-up, the adapter's shape, the preference loss and its
//! reference, the examples as the model sees them, the chat template, the model's shape. Left out, and so
//! free to change on resume: output paths, how often the run logs, evaluates and saves, how many checkpoints
//! are kept, early stopping, threads, evaluation batch size and data. The number of steps may change only
//! under schedules whose rates do not depend on it (`Schedule::depends_on_total`). Unset keys are left out,
//! so that a checkpoint from before such a key existed can be resumed.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::config::{SchedulerName, TrainingConfig, TrainingType};
use crate::hash::hex_sha256;
use crate::schedule::Schedule;
use crate::steps::StepPlan;

/// Names and values that determine a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// By config key where there is one, else by a description.
    pub values: BTreeMap<String, String>,
}

impl Identity {
    /// What the `training:` section and the plan contribute.
    pub fn of_training(config: &TrainingConfig, plan: &StepPlan) -> Self {
        let hyper = config.hyperparameters();
        let section = format!("training.{}", config.training_type);
        let mut identity = Self::default();
        identity.add("training.training_type", config.training_type);
        identity.add("training.seed", config.seed);
        identity.add("training.optimizer", config.optimizer.name());
        identity.add("training.lr_scheduler_type", config.lr_scheduler_type.name());
        for (name, value) in [
            ("learning_rate", hyper.learning_rate),
            ("weight_decay", hyper.weight_decay),
            ("adam_beta1", hyper.adam_beta1),
            ("adam_beta2", hyper.adam_beta2),
            ("adam_epsilon", hyper.adam_epsilon),
            ("max_grad_norm", hyper.max_grad_norm),
        ] {
            identity.add(format!("{section}.{name}"), value);
        }
        identity.add(format!("{section}.per_device_train_batch_size"), plan.batch_size);
        identity.add(format!("{section}.gradient_accumulation_steps"), plan.accumulation * plan.world_size);
        if config.bf16 {
            identity.add("training.bf16", true);
        }
        if config.pure_bf16 {
            identity.add("training.pure_bf16", true);
        }
        if let Some(adapter) = config.adapter() {
            let shape = serde_json::to_string(&adapter.adapter("").to_json()).unwrap_or_default();
            identity.add("training.lora (shape of the adapter)", shape);
        }
        if config.training_type == TrainingType::Dpo {
            let dpo = &config.dpo;
            identity.add("training.dpo.loss_type", dpo.loss_type.name());
            let other = dpo.reference_model_path.as_ref().map(|path| path.display().to_string());
            identity.add("training.dpo.reference_model_path", other.as_deref().unwrap_or("null"));
            identity.add("training.dpo.reference_free", dpo.reference_free);
            for (name, value) in [
                ("beta", dpo.beta),
                ("label_smoothing", dpo.label_smoothing),
                ("simpo_gamma", dpo.simpo_gamma),
                ("desirable_weight", dpo.desirable_weight),
                ("undesirable_weight", dpo.undesirable_weight),
            ] {
                identity.add(format!("training.dpo.{name}"), value);
            }
        }
        if !config.optim_args.set().is_empty() {
            identity.add("training.optim_args", Value::Object(config.optim_args.set()));
        }
        if !config.param_groups.is_empty() {
            let groups = serde_json::to_string(&config.param_groups).unwrap_or_default();
            identity.add("training.param_groups", groups);
        }
        if let Some(ratio) = config.adapter().and_then(|adapter| adapter.loraplus_lr_ratio) {
            identity.add("training.lora.loraplus_lr_ratio", ratio);
        }
        if let Some(alpha) = config.neftune_noise_alpha {
            identity.add("training.neftune_noise_alpha", alpha);
        }
        // The best evaluation so far is one by this metric.
        if let Some(name) = &config.metric_for_best_model {
            identity.add("training.metric_for_best_model", name);
        }
        if let Some(greater) = config.greater_is_better {
            identity.add("training.greater_is_better", greater);
        }
        let kwargs = config.lr_scheduler_kwargs;
        if !kwargs.set().is_empty() {
            identity.add("training.lr_scheduler_kwargs", Value::Object(kwargs.set()));
        }
        if Schedule::depends_on_total(config.lr_scheduler_type, &kwargs) {
            identity.add("total steps (num_train_epochs, max_steps)", plan.total_steps);
        }
        if config.lr_scheduler_type != SchedulerName::Constant {
            identity.add("warm-up steps (warmup_steps, warmup_ratio)", plan.warmup_steps);
        }
        identity
    }

    /// Adds a value.
    pub fn add(&mut self, name: impl Into<String>, value: impl ToString) {
        self.values.insert(name.into(), value.to_string());
    }

    /// Hash over all names and values.
    pub fn sha256(&self) -> String {
        let text: String = self.values.iter().map(|(name, value)| format!("{name}\0{value}\0")).collect();
        hex_sha256(text.as_bytes())
    }

    /// What differs from a checkpoint's, a sentence each.
    pub fn differences(&self, checkpoint: &BTreeMap<String, String>) -> Vec<String> {
        let absent = "absent".to_owned();
        let mut names: Vec<&String> = self.values.keys().chain(checkpoint.keys()).collect();
        names.sort();
        names.dedup();
        names
            .into_iter()
            .filter(|name| self.values.get(*name) != checkpoint.get(*name))
            .map(|name| {
                let then = checkpoint.get(name).unwrap_or(&absent);
                let now = self.values.get(name).unwrap_or(&absent);
                format!("{name}: {then} in the checkpoint, {now} now")
            })
            .collect()
    }
}
