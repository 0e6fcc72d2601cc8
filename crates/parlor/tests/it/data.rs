//! `parlor data inspect`: what training would see.

use crate::program::parlor;
use crate::tiny::{model, text, workplace};

#[test]
fn inspect_counts_tokens_and_shows_what_is_trained() {
    let directory = workplace();
    let model = model();
    let args = |kind: &'static str| {
        ["data", "inspect", "data/train.jsonl", "-m", text(&model), "--set", kind].map(str::to_owned)
    };
    let run = |kind: &'static str, json: bool| {
        let mut args = args(kind).to_vec();
        if json {
            args.push("--json".to_owned());
        }
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        parlor(directory.path(), &args).ok()
    };
    let sft = run("training.training_type=sft", true).json();
    let scratch = run("training.training_type=from_scratch", true).json();
    assert_eq!(sft["rows"], 24);
    assert_eq!(sft["total_tokens"], scratch["total_tokens"]);
    let trained = |value: &serde_json::Value| value["trained_tokens"].as_u64().unwrap();
    assert!(trained(&sft) > 0 && trained(&sft) < trained(&scratch), "{sft} {scratch}");
    let shown = run("training.training_type=sft", false).stdout;
    assert!(
        shown.contains("<|im_start|>assistant\n«Thing 0 is red, and its number is 0.<|im_end|>»"),
        "{shown}"
    );
}
