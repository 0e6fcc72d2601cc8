//! Plain environment variables and the keys that they set. The systematic form (`PARLOR__TRAINING__SEED=7`) reaches
//! every key; these are the names that people have in their shells and deployments already.

use parlor_config::{EnvName, EnvTarget};
use serde_json::Value;

/// Variables and keys. An empty variable counts as unset.
pub const ENVIRONMENT: &[EnvName] = &[
    sets("MODEL_NAME", "model.name"),
    sets("MODEL_TYPE", "model.model_type"),
    sets("DEVICE", "model.device"),
    sets("PARLOR_ISA", "model.instruction_set"),
    sets("TORCH_DTYPE", "model.torch_dtype"),
    sets("MAX_LENGTH", "model.max_length"),
    sets("CACHE_DIR", "model.cache_dir"),
    sets("TRAINING_TYPE", "training.training_type"),
    sets("OUTPUT_DIR", "training.output_dir"),
    sets("LOGGING_DIR", "training.logging_dir"),
    // Keys of the training type in force, which is known only after all layers are merged.
    resolves("PER_DEVICE_BATCH_SIZE", |config| of_training_type(config, "per_device_train_batch_size")),
    resolves("LEARNING_RATE", |config| of_training_type(config, "learning_rate")),
    resolves("NUM_TRAIN_EPOCHS", |config| of_training_type(config, "num_train_epochs")),
    sets("TRAIN_DATA_PATH", "data.train_data_path"),
    sets("EVAL_DATA_PATH", "data.eval_data_path"),
    // Where users of this name read it back; not the training batch.
    sets("BATCH_SIZE", "data.batch_size"),
    sets("BACKEND_TYPE", "serving.backend_type"),
    sets("SERVER_HOST", "serving.host"),
    sets("SERVER_PORT", "serving.port"),
    sets("MAX_CONCURRENT_REQUESTS", "serving.max_concurrent_requests"),
    sets("TENSOR_PARALLEL_SIZE", "serving.tensor_parallel_size"),
    sets("GPU_MEMORY_UTILIZATION", "serving.gpu_memory_utilization"),
    sets("API_KEY", "serving.api_key"),
    sets("WANDB_API_KEY", "monitoring.wandb.api_key"),
    sets("WANDB_PROJECT", "monitoring.wandb.project"),
    sets("COMET_API_KEY", "monitoring.comet.api_key"),
    sets("MLFLOW_TRACKING_URI", "monitoring.mlflow.tracking_uri"),
    sets("LOG_LEVEL", "log_level"),
    sets("HF_TOKEN", "hf_token"),
];

const fn sets(name: &'static str, key: &'static str) -> EnvName {
    EnvName { name, target: EnvTarget::Key(key) }
}

const fn resolves(name: &'static str, key: fn(&Value) -> String) -> EnvName {
    EnvName { name, target: EnvTarget::Resolved(key) }
}

/// `key` in the section of the training type in force. Validation reports an unknown type.
fn of_training_type(config: &Value, key: &str) -> String {
    let found = config.pointer("/training/training_type").and_then(Value::as_str).unwrap_or_default();
    let known = ["from_scratch", "sft", "dpo", "lora"];
    let section = known.into_iter().find(|name| *name == found).unwrap_or("dpo");
    format!("training.{section}.{key}")
}
