//! A tiny model, trained once by the program itself, and the config and data of such runs.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use tempfile::TempDir;

use crate::program::parlor;

/// A directory with `config.yaml` and `data/`, ready for `parlor train`.
pub(crate) fn workplace() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path());
    directory
}

fn write(directory: &Path) {
    std::fs::create_dir(directory.join("data")).unwrap();
    std::fs::write(directory.join("config.yaml"), CONFIG).unwrap();
    std::fs::write(directory.join("data/train.jsonl"), rows(24, "train")).unwrap();
    std::fs::write(directory.join("data/eval.jsonl"), rows(3, "eval")).unwrap();
}

fn rows(count: usize, name: &str) -> String {
    let colours = ["red", "green", "blue", "grey"];
    let row = |index: usize| {
        let colour = colours[index % colours.len()];
        let question = format!("What colour is {name} thing {index}?");
        let answer = format!("Thing {index} is {colour}, and its number is {}.", index * 7 % 10);
        format!(
            "{}\n",
            serde_json::json!({"messages": [
                {"role": "user", "content": question}, {"role": "assistant", "content": answer},
            ]})
        )
    };
    (0..count).map(row).collect()
}

/// Weights and data small enough for steps of a few milliseconds.
pub(crate) const CONFIG: &str = r#"
training:
  training_type: from_scratch
  output_dir: ./out
  seed: 7
  from_scratch:
    architecture:
      hidden_size: 32
      intermediate_size: 64
      num_hidden_layers: 2
      num_attention_heads: 2
      num_key_value_heads: 1
      max_position_embeddings: 256
    vocab_size: 320
    num_train_epochs: 12
    per_device_train_batch_size: 2
    gradient_accumulation_steps: 2
    learning_rate: 1e-2
    warmup_ratio: 0.1
    logging_steps: 1
    save_steps: 5
    eval_steps: 10
data:
  train_data_path: ./data/train.jsonl
  eval_data_path: ./data/eval.jsonl
  max_length: 128
monitoring:
  mlflow:
    enabled: false
"#;

struct Trained {
    directory: TempDir,
    stdout: String,
}

static TRAINED: LazyLock<Trained> = LazyLock::new(|| {
    let directory = workplace();
    let stdout = parlor(directory.path(), &["train", "--json"]).ok().stdout;
    Trained { directory, stdout }
});

/// The output directory of a finished run. Tests read it, and copy it before they change it.
pub(crate) fn model() -> PathBuf {
    TRAINED.directory.path().join("out")
}

/// What `train --json` printed for it.
pub(crate) fn summary() -> serde_json::Value {
    serde_json::from_str(&TRAINED.stdout).unwrap()
}

/// Its model files in a directory of their own, to be damaged.
pub(crate) fn copy() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    copy_files(&model(), directory.path());
    directory
}

/// Copies the files (not the directories) of `from` into `to`.
pub(crate) fn copy_files(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

/// A path as an argument.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
