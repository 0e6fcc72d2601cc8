//! Configuration: the file that must load unchanged, layers, names in the environment, errors with their places.

use std::path::Path;

use insta::assert_snapshot;
use parlor::configuration::Sources;
use parlor::{Config, load_config};
use serde_json::json;

use crate::program::{command, ended, keys, parlor};

const SEED: &str = include_str!("seed_config.yaml");

fn directory_with(name: &str, text: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join(name), text).unwrap();
    directory
}

#[test]
fn the_file_of_existing_users_loads_unchanged_and_says_nothing_but_the_defaults() {
    let directory = directory_with("seed.yaml", SEED);
    let sources = Sources { files: vec![directory.path().join("seed.yaml")], ..Sources::default() };
    let manager = load_config(sources).unwrap();
    // Every key of the file is a default, so the typed value is the default one, key by key.
    assert_eq!(*manager.get(), Config::default());
    assert_eq!(manager.value("training.dpo.learning_rate").unwrap(), json!(1e-6));
    let shown = parlor(directory.path(), &["-c", "seed.yaml", "config", "show"]).ok();
    assert_eq!(shown.stdout, "{}\n");
    let all = parlor(directory.path(), &["-c", "seed.yaml", "config", "show", "--all"]).ok();
    assert_snapshot!(all.stdout);
}

#[test]
fn a_file_is_validated_and_what_comes_later_is_said() {
    let directory = directory_with("config.yaml", SEED);
    let valid = parlor(directory.path(), &["config", "validate"]).ok();
    assert_eq!(valid.stdout, "valid: config.yaml\n");
    let later = parlor(directory.path(), &["--set", "training.fp16=true", "config", "validate"]).ok();
    assert!(
        later.stderr.contains("training.fp16") && later.stderr.contains("not in this build yet"),
        "{}",
        later.stderr
    );
    let valid = parlor(directory.path(), &["config", "validate", "--json"]).ok();
    assert_eq!(valid.json(), json!({"valid": true, "problems": []}));
}

const WRONG: &str = r#"model:
  nmae: "somewhere"
  max_length: 2048
training:
  training_type: stf
  seed: 1
  seed: 2
  sft:
    learning_rate: "5e-5x"
  from_scratch:
    learning_rate: 0
  dpo:
    learning_rate: .nan
data:
  batch_size: many
serving:
  port: "http"
"#;

#[test]
fn every_error_of_a_file_is_reported_at_once_with_its_place() {
    let directory = directory_with("config.yaml", WRONG);
    let refused = parlor(directory.path(), &["config", "validate"]).refused(&[]);
    assert_snapshot!(refused.said(directory.path()));
    // A verb that only needs the configuration refuses it with the same words.
    assert_eq!(parlor(directory.path(), &["train"]).refused(&[]).stderr, refused.stderr);
    let rows = parlor(directory.path(), &["config", "validate", "--json"]);
    assert_eq!(rows.code, 2);
    let value = rows.json();
    assert_eq!(value["valid"], false);
    let problems = value["problems"].as_array().unwrap();
    assert!(problems.len() == 8, "{value}");
    for problem in problems {
        assert_eq!(keys(problem), ["path", "message", "file", "line", "column", "help"]);
        assert_eq!(problem["file"], "config.yaml");
        assert!(problem["line"].as_u64().unwrap() > 0 && problem["column"].as_u64().unwrap() > 0);
    }
}

#[test]
fn values_that_are_no_numbers_or_out_of_range_are_refused_wherever_they_come_from() {
    let directory = tempfile::tempdir().unwrap();
    let set = |value: &str| {
        let flag = format!("training.from_scratch.learning_rate={value}");
        parlor(directory.path(), &["config", "validate", "--set", &flag])
    };
    set("0").refused(&["training.from_scratch.learning_rate", "above 0"]);
    set(".nan").refused(&["training.from_scratch.learning_rate"]);
    set("nan").refused(&["training.from_scratch.learning_rate", "a number was expected"]);
    set("5e-5x").refused(&["training.from_scratch.learning_rate", "5e-5x"]);
    set("1e-4").ok();
    for port in ["http", "0", "65536", "80.5"] {
        let mut command = command(directory.path(), &["config", "validate"]);
        ended(command.env("SERVER_PORT", port)).refused(&["SERVER_PORT", "serving.port"]);
    }
    parlor(directory.path(), &["config", "validate", "--set", "training.seed"]).refused(&["KEY=VALUE"]);
    parlor(directory.path(), &["-c", "absent.yaml", "config", "show"])
        .refused(&["absent.yaml", "parlor init"]);
}

fn value_of(directory: &Path, environment: &[(&str, &str)], key: &str) -> serde_json::Value {
    let mut command = command(directory, &["config", "get", key, "--json"]);
    ended(command.envs(environment.iter().copied())).ok().json()["value"].clone()
}

#[test]
fn plain_names_in_the_environment_set_their_keys() {
    let directory = tempfile::tempdir().unwrap();
    let table = [
        ("MODEL_NAME", "here", "model.name"),
        ("MODEL_TYPE", "auto", "model.model_type"),
        ("DEVICE", "cpu", "model.device"),
        ("TORCH_DTYPE", "float32", "model.torch_dtype"),
        ("MAX_LENGTH", "77", "model.max_length"),
        ("TRAINING_TYPE", "sft", "training.training_type"),
        ("OUTPUT_DIR", "./o", "training.output_dir"),
        ("LOGGING_DIR", "./l", "training.logging_dir"),
        ("BATCH_SIZE", "78", "data.batch_size"),
        ("TRAIN_DATA_PATH", "./t", "data.train_data_path"),
        ("EVAL_DATA_PATH", "./e", "data.eval_data_path"),
        ("CACHE_DIR", "./c", "model.cache_dir"),
        ("BACKEND_TYPE", "native", "serving.backend_type"),
        ("SERVER_HOST", "127.0.0.1", "serving.host"),
        ("SERVER_PORT", "81", "serving.port"),
        ("MAX_CONCURRENT_REQUESTS", "82", "serving.max_concurrent_requests"),
        ("TENSOR_PARALLEL_SIZE", "2", "serving.tensor_parallel_size"),
        ("GPU_MEMORY_UTILIZATION", "0.5", "serving.gpu_memory_utilization"),
        ("WANDB_PROJECT", "mine", "monitoring.wandb.project"),
        ("MLFLOW_TRACKING_URI", "./runs", "monitoring.mlflow.tracking_uri"),
        ("LOG_LEVEL", "INFO", "log_level"),
    ];
    for (name, value, key) in table {
        let found = value_of(directory.path(), &[(name, value)], key);
        let found = found.as_str().map_or_else(|| found.to_string(), str::to_owned);
        assert_eq!(found, value, "{name}");
    }
}

#[test]
fn names_of_the_training_type_wait_until_all_layers_have_spoken() {
    let directory = directory_with("config.yaml", "training:\n  training_type: from_scratch\n");
    let path = directory.path();
    let rate = ("LEARNING_RATE", "0.25");
    assert_eq!(value_of(path, &[rate], "training.from_scratch.learning_rate"), json!(0.25));
    // The systematic name says sft after the file has said from_scratch.
    let sft = ("PARLOR__TRAINING__TRAINING_TYPE", "sft");
    assert_eq!(value_of(path, &[rate, sft], "training.sft.learning_rate"), json!(0.25));
    assert_eq!(value_of(path, &[rate, sft], "training.from_scratch.learning_rate"), json!(5e-5));
    assert_eq!(
        value_of(path, &[("NUM_TRAIN_EPOCHS", "9")], "training.from_scratch.num_train_epochs"),
        json!(9)
    );
    let batch = ("PER_DEVICE_BATCH_SIZE", "3");
    assert_eq!(value_of(path, &[batch], "training.from_scratch.per_device_train_batch_size"), json!(3));
    // `BATCH_SIZE` is the data's, as its users read it back.
    assert_eq!(value_of(path, &[("BATCH_SIZE", "5")], "data.batch_size"), json!(5));
}

#[test]
fn explain_tells_value_layer_place_default_range_and_meaning() {
    let directory = directory_with("config.yaml", "training:\n  lora:\n    r: 16\n");
    let mut command = command(directory.path(), &["config", "explain", "training.lora.r"]);
    assert_snapshot!(ended(command.env("PARLOR__TRAINING__LORA__R", "8")).ok().stdout);
    let args = ["config", "explain", "training.lora.r", "--json"];
    let value = parlor(directory.path(), &args).ok().json();
    for key in ["key", "value", "layer", "file", "line", "default", "description"] {
        assert!(value.get(key).is_some(), "{key} is missing: {value}");
    }
    assert_eq!((&value["value"], &value["layer"], &value["line"]), (&json!(16), &json!("file"), &json!(3)));
    parlor(directory.path(), &["config", "explain", "training.lora.rank"]).refused(&["unknown key"]);
}

#[test]
fn init_writes_a_file_that_is_valid_and_never_replaces_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let written = parlor(path, &["init", "--json"]).ok();
    assert_eq!(written.json(), json!({"path": "config.yaml"}));
    let text = std::fs::read_to_string(path.join("config.yaml")).unwrap();
    assert!(text.lines().filter(|line| line.trim_start().starts_with('#')).count() > 100);
    parlor(path, &["config", "validate"]).ok();
    assert_eq!(parlor(path, &["config", "get", "training.training_type"]).ok().stdout, "from_scratch\n");
    parlor(path, &["init"]).refused(&["config.yaml exists already"]);
    assert_eq!(std::fs::read_to_string(path.join("config.yaml")).unwrap(), text);
    parlor(path, &["init", "no/such/place.yaml"]).refused(&["no/such/place.yaml"]);
}

#[test]
fn the_schema_and_the_reference_cover_every_key() {
    let directory = tempfile::tempdir().unwrap();
    let schema = parlor(directory.path(), &["config", "schema"]).ok();
    let schema: serde_json::Value = serde_json::from_str(&schema.stdout).unwrap();
    assert!(schema["properties"]["training"].is_object(), "{schema}");
    let reference = parlor(directory.path(), &["config", "schema", "--markdown"]).ok().stdout;
    for key in load_config(Sources::default()).unwrap().keys() {
        assert!(reference.contains(&format!("| `{key}` |")), "{key} is not in the reference");
    }
}
