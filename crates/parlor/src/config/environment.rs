//! Plain environment variables and the keys that they set. The systematic form (`PARLOR__TRAINING__SEED=7`) reaches
//! every key; these are the names that people have in their shells and deployments already.

/// Variable and key.
pub const ENVIRONMENT: &[(&str, &str)] = &[
    ("MODEL_NAME", "model.name"),
    ("MODEL_TYPE", "model.model_type"),
    ("DEVICE", "model.device"),
    ("TORCH_DTYPE", "model.torch_dtype"),
    ("MAX_LENGTH", "model.max_length"),
    ("CACHE_DIR", "model.cache_dir"),
    ("TRAINING_TYPE", "training.training_type"),
    ("OUTPUT_DIR", "training.output_dir"),
    ("LOGGING_DIR", "training.logging_dir"),
    ("TRAIN_DATA_PATH", "data.train_data_path"),
    ("EVAL_DATA_PATH", "data.eval_data_path"),
    // Where users of this name read it back; not the training batch.
    ("BATCH_SIZE", "data.batch_size"),
    ("BACKEND_TYPE", "serving.backend_type"),
    ("SERVER_HOST", "serving.host"),
    ("SERVER_PORT", "serving.port"),
    ("MAX_CONCURRENT_REQUESTS", "serving.max_concurrent_requests"),
    ("TENSOR_PARALLEL_SIZE", "serving.tensor_parallel_size"),
    ("GPU_MEMORY_UTILIZATION", "serving.gpu_memory_utilization"),
    ("API_KEY", "serving.api_key"),
    ("WANDB_API_KEY", "monitoring.wandb.api_key"),
    ("WANDB_PROJECT", "monitoring.wandb.project"),
    ("COMET_API_KEY", "monitoring.comet.api_key"),
    ("MLFLOW_TRACKING_URI", "monitoring.mlflow.tracking_uri"),
    ("LOG_LEVEL", "log_level"),
    ("HF_TOKEN", "hf_token"),
];

/// Variable, and the key that it sets in the sub-section of the training type in force, which is known only after
/// all layers have spoken.
pub const OF_TRAINING_TYPE: &[(&str, &str)] = &[
    ("PER_DEVICE_BATCH_SIZE", "per_device_train_batch_size"),
    ("LEARNING_RATE", "learning_rate"),
    ("NUM_TRAIN_EPOCHS", "num_train_epochs"),
];
