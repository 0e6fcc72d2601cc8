//! `parlor quickstart`, cut short: what it writes, prints and says.

use crate::program::{keys, parlor};

#[test]
fn quickstart_trains_measures_answers_and_can_be_gone_on_with() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let small = [
        "--set",
        "training.from_scratch.architecture.hidden_size=32",
        "--set",
        "training.from_scratch.architecture.intermediate_size=64",
        "--set",
        "training.from_scratch.architecture.num_hidden_layers=1",
    ];
    let args = ["quickstart", "--dir", "q", "--no-chat", "--max-seconds", "4", "--json"];
    let value = parlor(path, &[&args[..], &small].concat()).ok().json();
    assert_eq!(
        keys(&value),
        [
            "model_dir",
            "steps",
            "train_seconds",
            "tokens_per_second",
            "eval_loss",
            "eval_perplexity",
            "samples"
        ]
    );
    assert!(value["steps"].as_u64().unwrap() >= 1);
    assert!(value["eval_loss"].as_f64().unwrap() > 0.0);
    let samples = value["samples"].as_array().unwrap();
    assert_eq!(samples.len(), 3);
    assert!(samples.iter().all(|sample| keys(sample) == ["prompt", "answer"]));
    for name in ["config.yaml", "data/train", "data/eval", "model/model.safetensors"] {
        assert!(path.join("q").join(name).exists(), "{name} is missing");
    }
    // What it wrote is a config, a model and data like any other.
    parlor(path, &["-c", "q/config.yaml", "config", "validate"]).ok();
    parlor(path, &["data", "validate", "q/data"]).ok();
    parlor(path, &["generate", "-m", "q/model", "-p", "Hello", "--max-tokens", "4"]).ok();
    parlor(path, &["eval", "-m", "q/model", "--data", "q/data/eval"]).ok();
    parlor(path, &args).refused(&["earlier quickstart", "parlor chat -m q/model"]);
}
