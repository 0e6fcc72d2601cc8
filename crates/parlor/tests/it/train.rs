//! `parlor train`: results, files, directories that are taken and going on.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::program::{keys, parlor};
use crate::tiny::{model, summary, text, workplace};

/// Rows of a run's metrics without what only time decides.
pub(crate) fn metrics(output: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(output.join("metrics.jsonl")).unwrap();
    text.lines()
        .map(|line| {
            let mut row: Value = serde_json::from_str(line).unwrap();
            for key in ["tokens_per_second", "memory_bytes", "eval_runtime"] {
                row.as_object_mut().unwrap().remove(key);
            }
            row
        })
        .collect()
}

#[test]
fn a_run_leaves_the_files_of_the_contract() {
    let output = model();
    for name in [
        "model.safetensors",
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "chat_template.jinja",
        "metrics.jsonl",
        "config.resolved.yaml",
        "run.json",
        "best/model.safetensors",
        "checkpoint-72/trainer_state.json",
    ] {
        assert!(output.join(name).is_file(), "{name} is missing");
    }
    let summary = summary();
    for key in [
        "model_dir",
        "steps",
        "seconds",
        "tokens",
        "tokens_per_second",
        "train_loss",
        "eval_loss",
        "peak_memory_bytes",
    ] {
        assert!(keys(&summary).contains(&key), "{key} is missing: {summary}");
    }
    assert_eq!(summary["steps"], 72);
    let rows = metrics(&output);
    let losses: Vec<f64> = rows.iter().filter_map(|row| row["loss"].as_f64()).collect();
    assert_eq!(losses.len(), 72);
    assert!(losses[71] < losses[0] - 1.0, "it learned nothing: {losses:?}");
    assert!(rows.iter().any(|row| row.get("eval_perplexity").is_some()));
    let run: Value = serde_json::from_slice(&std::fs::read(output.join("run.json")).unwrap()).unwrap();
    assert_eq!(run["status"], "finished");
    assert_eq!(run["exit_status"], 0);
}

#[test]
fn the_same_run_gives_the_same_model_and_the_resolved_config_is_one() {
    let directory = workplace();
    let resolved = model().join("config.resolved.yaml");
    parlor(directory.path(), &["-c", text(&resolved), "train"]).ok();
    let weights = |output: &Path| std::fs::read(output.join("model.safetensors")).unwrap();
    assert!(weights(&directory.path().join("out")) == weights(&model()), "not the same bytes");
    assert_eq!(metrics(&directory.path().join("out")), metrics(&model()));
}

fn contents(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(contents(&path));
        } else {
            found.insert(path.display().to_string(), std::fs::read(&path).unwrap());
        }
    }
    found
}

#[test]
fn a_directory_that_holds_a_run_is_refused_and_stays_as_it_is() {
    let directory = workplace();
    let output = directory.path().join("out");
    parlor(directory.path(), &["train", "--max-steps", "3"]).ok();
    let before = contents(&output);
    parlor(directory.path(), &["train"]).refused(&["holds another run", "--resume", "--overwrite"]);
    // Another config does not go on from this checkpoint.
    parlor(directory.path(), &["train", "--resume", "--set", "training.seed=8"]).refused(&["training.seed"]);
    assert!(contents(&output) == before, "something was changed");
    parlor(directory.path(), &["train", "--overwrite", "--resume"]).refused(&["--overwrite"]);
    parlor(directory.path(), &["train", "--overwrite", "--max-steps", "2"]).ok();
    assert_eq!(metrics(&output).iter().filter(|row| row.get("loss").is_some()).count(), 2);
}

#[test]
fn directories_that_cannot_be_written() {
    let directory = workplace();
    std::fs::write(directory.path().join("file"), "in the way").unwrap();
    let args = ["train", "--set", "training.output_dir=./file/out"];
    parlor(directory.path(), &args).refused(&["file/out", "training.output_dir"]);
    assert_eq!(std::fs::read_to_string(directory.path().join("file")).unwrap(), "in the way");
    let args = ["train", "--resume", "--set", "training.output_dir=./never"];
    // A resume of a run that never began begins it; one of a directory that is not there is an error.
    parlor(directory.path(), &["train", "--resume", "./absent"]).refused(&["absent"]);
    parlor(directory.path(), &[&args[..], &["--max-steps", "1"]].concat()).ok();
}

#[test]
fn what_this_build_lacks_stops_the_run() {
    let directory = workplace();
    parlor(directory.path(), &["train", "--set", "training.fp16=true"]).refused(&["not in this build yet"]);
    assert!(!directory.path().join("out/run.json").exists());
}

#[test]
fn fine_tuning_goes_on_from_a_directory() {
    let directory = workplace();
    let name = format!("model.name={}", text(&model()));
    let args = [
        "train",
        "--set",
        "training.training_type=sft",
        "--set",
        "training.lora.enabled=false",
        "--set",
        &name,
        "--max-steps",
        "3",
        "--json",
    ];
    let value = parlor(directory.path(), &args).ok().json();
    assert_eq!(value["steps"], 3);
    // The base model's loss was low already.
    assert!(value["train_loss"].as_f64().unwrap() < 3.0, "{value}");
    let own = ["train", "--set", "training.training_type=sft", "--set", "model.name=./out", "--overwrite"];
    parlor(directory.path(), &own).refused(&["model.name"]);
}

/// Less memory, the same bytes.
#[test]
fn checkpointed_activations_change_nothing() {
    for value in ["true", "full", "every_2", "every_9"] {
        let directory = workplace();
        let setting = format!("training.gradient_checkpointing={value}");
        parlor(directory.path(), &["train", "--set", &setting]).ok();
        let weights = |output: &Path| std::fs::read(output.join("model.safetensors")).unwrap();
        assert!(weights(&directory.path().join("out")) == weights(&model()), "{value}");
    }
    let directory = workplace();
    for value in ["every_0", "some", "3"] {
        let setting = format!("training.gradient_checkpointing={value}");
        parlor(directory.path(), &["train", "--set", &setting]).refused(&["gradient_checkpointing"]);
    }
}

#[test]
fn the_model_in_training_answers_prompts() {
    let directory = workplace();
    let ended = parlor(
        directory.path(),
        &[
            "train",
            "--set",
            "training.sample_prompts=[Who are you?]",
            "--set",
            "training.sample_max_new_tokens=4",
        ],
    );
    let rows = std::fs::read_to_string(directory.path().join("out/samples.jsonl")).unwrap();
    let rows: Vec<Value> = rows.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let evaluations = metrics(&directory.path().join("out"));
    let evaluations: Vec<_> = evaluations.iter().filter(|row| row.get("eval_loss").is_some()).collect();
    assert!(!rows.is_empty());
    assert_eq!(rows.len(), evaluations.len());
    for (row, evaluation) in rows.iter().zip(evaluations) {
        assert_eq!((&row["step"], &row["prompt"]), (&evaluation["step"], &Value::from("Who are you?")));
        assert!(row["text"].is_string());
        assert!(ended.stderr.contains(&format!("step {}: Who are you?", row["step"])), "{}", ended.stderr);
    }
}
