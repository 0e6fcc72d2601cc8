//! The rules that the types of the sections cannot express: aliases, secrets, and validation across keys.

use parlor_config::{Alias, ConfigError, ConfigManager, Problem, Rules, SeedKeys, Sources};

use super::environment::ENVIRONMENT;
use super::root::Config;

/// Other spellings of values, each used as the canonical one.
pub const ALIASES: &[Alias] = &[
    alias("serving.backend_type", "native", "pytorch"),
    alias("training.optimizer", "adamw", "adamw_torch"),
    alias("training.optimizer", "adamw_torch_fused", "adamw_torch"),
    alias("training.optimizer", "adamw_bnb_8bit", "adamw_8bit"),
    alias("training.optimizer", "lion_32bit", "lion"),
    alias("model.torch_dtype", "fp32", "float32"),
    alias("model.torch_dtype", "bf16", "bfloat16"),
    alias("model.torch_dtype", "fp16", "float16"),
    alias("log_level", "warn", "warning"),
    alias("log_level", "ERROR", "error"),
    alias("log_level", "WARNING", "warning"),
    alias("log_level", "INFO", "info"),
    alias("log_level", "DEBUG", "debug"),
    alias("log_level", "CRITICAL", "error"),
];

const fn alias(key: &'static str, alias: &'static str, canonical: &'static str) -> Alias {
    Alias { key, alias, canonical }
}

/// Keys whose values are never shown, logged or saved.
pub const SECRETS: &[&str] =
    &["serving.api_key", "monitoring.wandb.api_key", "monitoring.comet.api_key", "hf_token"];

/// The rules of Parlor's own configuration. A program with sections of its own takes these as a pattern.
pub fn rules() -> Rules<Config> {
    Rules {
        prefix: "PARLOR",
        aliases: ALIASES,
        env_names: ENVIRONMENT,
        secrets: SECRETS,
        validators: vec![model, training, data],
    }
}

/// Loads the configuration from `sources`.
///
/// # Errors
/// Every problem of every layer at once.
pub fn load_config(sources: Sources) -> Result<ConfigManager<Config>, ConfigError> {
    ConfigManager::load(sources, rules())
}

impl SeedKeys for Config {
    const MODEL_NAME: &str = "model.name";
    const TRAINING_TYPE: &str = "training.training_type";
    const BATCH_SIZE: &str = "data.batch_size";
}

fn model(config: &Config) -> Vec<Problem> {
    let found = config.model.problems();
    found.into_iter().map(|(key, message)| Problem::at(key, message)).collect()
}

fn training(config: &Config) -> Vec<Problem> {
    let found = parlor_train::config::problems(&config.training);
    found.into_iter().map(|problem| Problem::at(problem.key, problem.message)).collect()
}

fn data(config: &Config) -> Vec<Problem> {
    let found = parlor_text::data_problems(&config.data);
    found.into_iter().map(|(key, message)| Problem::at(key, message)).collect()
}
