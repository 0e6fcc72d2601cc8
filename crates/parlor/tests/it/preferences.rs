//! Preference training through the program: its output, its files, and what is refused.

use std::path::Path;

use serde_json::json;

use crate::program::{Ended, parlor};
use crate::tiny::{model, text, workplace};
use crate::train::metrics;

/// Pairs in `data/pairs.jsonl` and `data/pairs_eval.jsonl`.
fn write_pairs(directory: &Path) {
    let message = |role: &str, text: String| json!([{"role": role, "content": text}]);
    let pair = |n: usize| {
        let prompt = message("user", format!("What colour is thing {n}?"));
        let (chosen, rejected) = (format!("Thing {n} is red."), format!("Who cares about {n}?"));
        json!({"prompt": prompt, "chosen": message("assistant", chosen), "rejected": message("assistant", rejected)})
    };
    let rows = |range: std::ops::Range<usize>| range.map(|n| format!("{}\n", pair(n))).collect::<String>();
    std::fs::write(directory.join("data/pairs.jsonl"), rows(0..12)).unwrap();
    std::fs::write(directory.join("data/pairs_eval.jsonl"), rows(20..23)).unwrap();
}

fn train(directory: &Path, output: &str, flags: &[&str], more: &[&str]) -> Ended {
    let (base, output) = (format!("model.name={}", text(&model())), format!("training.output_dir={output}"));
    let settings = [
        base.as_str(),
        output.as_str(),
        "training.training_type=dpo",
        "training.dpo.learning_rate=0.01",
        "training.dpo.logging_steps=1",
        "training.dpo.save_steps=2",
        "data.train_data_path=data/pairs.jsonl",
        "data.eval_data_path=data/pairs_eval.jsonl",
    ];
    let settings = settings.iter().chain(more).flat_map(|setting| ["--set", setting]);
    let args: Vec<&str> = ["train"].into_iter().chain(flags.iter().copied()).chain(settings).collect();
    parlor(directory, &args)
}

#[test]
fn an_adapter_learns_to_prefer_and_goes_on_where_it_was_stopped() {
    let directory = workplace();
    write_pairs(directory.path());
    let ended = train(directory.path(), "whole", &[], &[]).ok();
    assert!(ended.stderr.contains("reference model: 15 of 15 examples"), "{}", ended.stderr);
    let whole = directory.path().join("whole");
    assert!(whole.join("adapter_model.safetensors").is_file());
    assert_eq!(std::fs::read_dir(whole.join("reference")).unwrap().count(), 2);
    let rows = metrics(&whole);
    assert_eq!(rows[0]["rewards/margins"], 0.0);
    let last = rows.last().unwrap();
    for name in ["accuracies", "margins", "chosen", "rejected"] {
        assert!(last[format!("eval_rewards/{name}")].is_f64(), "{last}");
    }
    assert!(last["eval_rewards/margins"].as_f64().unwrap() > 0.0, "{last}");

    let from = format!("training.resume_from_checkpoint={}", text(&whole.join("checkpoint-4")));
    train(directory.path(), "again", &[], &[&from]).ok();
    let adapter = |name: &str| std::fs::read(directory.path().join(name).join("adapter_model.safetensors"));
    assert!(adapter("again").unwrap() == adapter("whole").unwrap());
    train(directory.path(), "other", &[], &[&from, "training.dpo.beta=0.3"]).refused(&["training.dpo.beta"]);
    train(directory.path(), "other", &[], &[&from, "training.dpo.loss_type=ipo"])
        .refused(&["training.dpo.loss_type"]);
}

#[test]
fn settings_and_rows_that_cannot_work_are_refused_before_anything_starts() {
    let directory = workplace();
    write_pairs(directory.path());
    let refused = |setting: &str, parts: &[&str]| {
        train(directory.path(), "out2", &[], &[setting]).refused(parts);
        assert!(!directory.path().join("out2/metrics.jsonl").exists());
    };
    refused("training.dpo.beta=0", &["training.dpo.beta", "above 0"]);
    refused("training.dpo.loss_type=dpo", &["training.dpo.loss_type", "sigmoid", "kto"]);
    refused("training.dpo.reference_model_path=nowhere", &["nowhere"]);
    refused(
        "data.train_data_path=data/train.jsonl",
        &["train.jsonl:1", "`messages`", "\"chosen\": ...", "sft"],
    );
    refused("data.eval_data_path=data/eval.jsonl", &["eval.jsonl:1", "\"chosen\": ..."]);
    refused("training.dpo.max_length=3", &["none of the 12 rows", "max_length"]);
    train(directory.path(), "out2", &[], &["data.on_long_row=error", "training.dpo.max_length=30"])
        .refused(&["12 rows are longer than 30 tokens", "pairs.jsonl:1", "data.on_long_row: truncate"]);
    let other = ["training.dpo.loss_type=orpo", "training.dpo.reference_model_path=nowhere"];
    train(directory.path(), "out2", &[], &other)
        .refused(&["training.dpo.reference_model_path", "set it to null"]);
    // Cut, or left out, and counted.
    let ended = train(directory.path(), "cut", &["--max-steps", "1"], &["training.dpo.max_length=40"]).ok();
    assert!(ended.stderr.contains("rows are cut at the longest length"), "{}", ended.stderr);
}
