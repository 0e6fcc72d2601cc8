//! Problems of a `training:` section beyond types and ranges, and features that this build does not have yet.

use super::hyperparameters::Hyperparameters;
use super::lora::InitLoraWeights;
use super::optimizer::group_problems;
use super::training::{TrainingConfig, TrainingType};

/// A complaint about one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key, from the root of the config: `training.sft.learning_rate`.
    pub key: String,
    /// What is wrong and what to do.
    pub message: String,
}

fn problem(key: impl Into<String>, message: impl Into<String>) -> Problem {
    Problem { key: key.into(), message: message.into() }
}

/// Values that cannot work, in every sub-section, also those not in force: numbers out of range or not finite.
pub fn problems(config: &TrainingConfig) -> Vec<Problem> {
    let sections = [
        ("from_scratch", config.from_scratch.hyperparameters()),
        ("sft", config.sft.hyperparameters()),
        ("dpo", config.dpo.hyperparameters()),
        ("lora", config.lora.hyperparameters()),
    ];
    let mut found: Vec<Problem> =
        sections.iter().flat_map(|(section, values)| of_hyperparameters(section, values)).collect();
    if config.output_dir.as_os_str().is_empty() {
        found.push(problem("training.output_dir", "it is empty; name a directory for the trained model"));
    }
    for (key, message) in config.dpo.problems() {
        found.push(problem(format!("training.dpo.{key}"), message));
    }
    if config.lora.r == 0 {
        found.push(problem("training.lora.r", "it is 0; it must be at least 1"));
    }
    let lora = &config.lora;
    if !(0.0..1.0).contains(&lora.lora_dropout) {
        let value = lora.lora_dropout;
        found.push(problem(
            "training.lora.lora_dropout",
            format!("it is {value}; it must be 0 or above, below 1"),
        ));
    }
    if lora.rank_pattern.values().any(|&r| r == 0) {
        found.push(problem("training.lora.rank_pattern", "a rank is 0; it must be at least 1"));
    }
    if lora.alpha_pattern.values().any(|alpha| !alpha.is_finite()) {
        found.push(problem("training.lora.alpha_pattern", "an alpha is not a finite number"));
    }
    if lora.init_lora_weights == InitLoraWeights::Flag(false) {
        found
            .push(problem("training.lora.init_lora_weights", "it is false; it must be `true` or `gaussian`"));
    }
    if config.training_type == TrainingType::Lora && !lora.enabled {
        found.push(problem(
            "training.lora.enabled",
            "it is false, but `training.training_type` is `lora`; set it to true, or train every weight with `sft`",
        ));
    }
    if let Some(ratio) = lora.loraplus_lr_ratio.filter(|ratio| !(ratio.is_finite() && *ratio > 0.0)) {
        let message = format!("it is {ratio}; it must be a number above 0, such as 16");
        found.push(problem("training.lora.loraplus_lr_ratio", message));
    }
    for (key, message) in config.optim_args.problems(config.optimizer) {
        found.push(problem(format!("training.optim_args.{key}"), message));
    }
    for (key, message) in group_problems(&config.param_groups) {
        found.push(problem(format!("training.{key}"), message));
    }
    let learning_rate = config.hyperparameters().learning_rate;
    for (key, message) in config.lr_scheduler_kwargs.problems(config.lr_scheduler_type, learning_rate) {
        found.push(problem(format!("training.lr_scheduler_kwargs.{key}"), message));
    }
    if let Some(loss) = config.loss_watchdog_threshold.filter(|loss| !(loss.is_finite() && *loss > 0.0)) {
        let message = format!("it is {loss}; it must be a number above 0, such as 10");
        found.push(problem("training.loss_watchdog_threshold", message));
    }
    if let Some(alpha) = config.neftune_noise_alpha.filter(|alpha| !(alpha.is_finite() && *alpha >= 0.0)) {
        let message = format!("it is {alpha}; it must be a number of at least 0, such as 5");
        found.push(problem("training.neftune_noise_alpha", message));
    }
    if config.loss_watchdog_patience == 0 {
        found.push(problem("training.loss_watchdog_patience", "it is 0; it must be at least 1"));
    }
    if config.sample_max_new_tokens == 0 {
        found.push(problem("training.sample_max_new_tokens", "it is 0; it must be at least 1"));
    }
    let metric = config.best_metric().name;
    if config.training_type != TrainingType::Dpo && !["loss", "perplexity"].contains(&metric) {
        let message = format!("it is `{metric}`, but an evaluation gives `loss` and `perplexity`");
        found.push(problem("training.metric_for_best_model", message));
    }
    if (config.bf16 || config.pure_bf16) && config.fp16 {
        let other = if config.pure_bf16 { "pure_bf16" } else { "bf16" };
        found.push(problem("training.fp16", format!("`{other}` is set too; choose one of them")));
    }
    found
}

fn of_hyperparameters(section: &str, values: &Hyperparameters) -> Vec<Problem> {
    let key = |name: &str| format!("training.{section}.{name}");
    let mut found = Vec::new();
    let positive = [("learning_rate", values.learning_rate), ("adam_epsilon", values.adam_epsilon)];
    for (name, value) in positive {
        if !(value.is_finite() && value > 0.0) {
            found.push(problem(
                key(name),
                format!("it is {value}; it must be a number above 0, such as 5e-5"),
            ));
        }
    }
    let not_negative = [
        ("weight_decay", values.weight_decay),
        ("max_grad_norm", values.max_grad_norm),
        ("early_stopping_threshold", values.early_stopping_threshold),
    ];
    for (name, value) in not_negative {
        if !(value.is_finite() && value >= 0.0) {
            found.push(problem(key(name), format!("it is {value}; it must be 0 or above")));
        }
    }
    for (name, value) in [("adam_beta1", values.adam_beta1), ("adam_beta2", values.adam_beta2)] {
        if !(0.0..1.0).contains(&value) {
            found.push(problem(key(name), format!("it is {value}; it must be 0 or above, below 1")));
        }
    }
    if !(0.0..=1.0).contains(&values.warmup_ratio) {
        let message = format!("it is {}; it must be 0 to 1", values.warmup_ratio);
        found.push(problem(key("warmup_ratio"), message));
    }
    let at_least_one = [
        ("num_train_epochs", u64::from(values.num_train_epochs)),
        ("per_device_train_batch_size", values.per_device_train_batch_size as u64),
        ("per_device_eval_batch_size", values.per_device_eval_batch_size as u64),
        ("gradient_accumulation_steps", values.gradient_accumulation_steps as u64),
        ("logging_steps", values.logging_steps),
        ("save_total_limit", values.save_total_limit.map_or(1, |limit| limit as u64)),
        ("early_stopping_patience", values.early_stopping_patience.map_or(1, u64::from)),
    ];
    for (name, value) in at_least_one {
        if value == 0 {
            found.push(problem(key(name), "it is 0; it must be at least 1"));
        }
    }
    if values.max_steps == 0 || values.max_steps < -1 {
        let message =
            format!("it is {}; it must be a number of steps, or -1 to count epochs", values.max_steps);
        found.push(problem(key("max_steps"), message));
    }
    found
}

/// Keys in force whose feature this build does not have. A run must refuse them, never ignore them.
pub fn unsupported(config: &TrainingConfig) -> Vec<Problem> {
    let mut found = Vec::new();
    let mut missing = |key: &str, what: &str, instead: &str| {
        found.push(problem(key, format!("{what}: not in this build yet; {instead}")));
    };
    if config.fp16 {
        missing("training.fp16", "training in float16", "leave it false, or set `training.bf16`");
    }
    found
}
