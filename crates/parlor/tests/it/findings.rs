//! What is said of rows before they are trained on, and the date that a template reads.

use std::path::Path;

use serde_json::json;

use crate::generation::place;
use crate::program::{Ended, parlor};

/// ChatML that tells the day, has a prompt of its own, no tools, and no end behind answers.
const TEMPLATE: &str = "{% if messages[0].role != 'system' %}<|im_start|>system\nYou are a bot that helps on {{ strftime_now('%Y-%m-%d') }}.<|im_end|>\n{% endif %}\
    {% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{% if m.role == 'user' %}<|im_end|>{% endif %}\n{% endfor %}\
    {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

const ROWS: &str = concat!(
    r#"{"messages": [{"role": "system", "content": "Brief."}, {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}"#,
    "\n",
    r#"{"messages": [{"role": "user", "content": "Time?"}, {"role": "assistant", "content": "Late"}], "tools": [{"type": "function", "function": {"name": "clock"}}]}"#,
    "\n",
);

fn workplace() -> tempfile::TempDir {
    let directory = place(&json!({}));
    std::fs::write(directory.path().join("m/chat_template.jinja"), TEMPLATE).unwrap();
    std::fs::write(directory.path().join("rows.jsonl"), ROWS).unwrap();
    directory
}

const SETTINGS: [&str; 12] = [
    "--set",
    "model.name=m",
    "--set",
    "training.training_type=sft",
    "--set",
    "training.lora.enabled=false",
    "--set",
    "data.train_data_path=rows.jsonl",
    "--set",
    "training.sft.per_device_train_batch_size=2",
    "--set",
    "model.max_length=128",
];

fn run(directory: &Path, args: &[&str], more: &[&str]) -> Ended {
    parlor(directory, &[args, &SETTINGS, more].concat())
}

#[test]
fn what_is_odd_is_said_with_an_example_and_a_fix() {
    let directory = workplace();
    let words = [
        "2 rows without an end-of-turn token among what is trained",
        "(the first: rows.jsonl:1)",
        "1 row with `tools` that the chat template does not render",
        "1 row without a system prompt get the chat template's own (\"You are a bot that helps on",
        "(the first: rows.jsonl:2)",
    ];
    let inspect = ["data", "inspect", "rows.jsonl", "-m", "m", "--summary"];
    let shown = parlor(directory.path(), &inspect).ok().stdout;
    for word in words {
        assert!(shown.contains(word), "`{word}` is not in:\n{shown}");
    }
    assert!(!shown.contains('«'), "rows are not shown: {shown}");
    let ended =
        run(directory.path(), &["train", "--max-steps", "1"], &["--set", "training.output_dir=out"]).ok();
    for word in words {
        assert!(ended.stderr.contains(word), "`{word}` is not in:\n{}", ended.stderr);
    }
    assert!(ended.stderr.contains("tokens are trained ("), "{}", ended.stderr);
    // A template that ends its answers and renders tools has nothing said of it.
    let template = "{% for t in tools or [] %}{{ t | tojson }}{% endfor %}{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}";
    std::fs::write(directory.path().join("m/chat_template.jinja"), template).unwrap();
    let value = parlor(directory.path(), &[&inspect[..], &["--json"]].concat()).ok().json();
    for finding in ["without_end", "doubled_bos", "tools_not_rendered", "cut", "system_from_template"] {
        assert_eq!(value["findings"][finding]["count"], 0, "{finding}: {value}");
    }
}

#[test]
fn the_date_that_a_template_reads_is_the_run_s() {
    let directory = workplace();
    let place = directory.path();
    let then = ["--set", "model.chat_template_date=2020-02-29"];
    let out = ["--set", "training.output_dir=out", "--set", "training.sft.save_steps=1"];
    let ended = run(place, &["train", "--max-steps", "2"], &[&out[..], &then].concat()).ok();
    assert!(
        ended.stderr.contains("in this run, also when it is resumed, it is 2020-02-29"),
        "{}",
        ended.stderr
    );
    let record: serde_json::Value =
        serde_json::from_slice(&std::fs::read(place.join("out/run.json")).unwrap()).unwrap();
    assert_eq!(record["template_date"], "2020-02-29");
    let weights = || std::fs::read(place.join("out/model.safetensors")).unwrap();
    let whole = weights();
    // Another day: nothing says the date any more but the run, which goes on from its first step.
    let resume = ["train", "--max-steps", "2", "--resume", "out/checkpoint-1"];
    std::fs::remove_file(place.join("out/model.safetensors")).unwrap();
    run(place, &resume, &out).ok();
    assert_eq!(weights(), whole);
    let loss = |more: &[&str]| {
        let args = [&["eval", "-m", "out", "--data", "rows.jsonl", "--json"], more].concat();
        parlor(place, &args).ok().json()["loss"].as_f64().unwrap()
    };
    assert_eq!(loss(&[]), loss(&then));
    assert_ne!(loss(&[]), loss(&["--set", "model.chat_template_date=2021-12-31"]));
    // A date that is said on resume must be the run's.
    let other = ["--set", "model.chat_template_date=2021-12-31"];
    let refused = run(place, &resume, &[&out[..], &other].concat());
    assert!(refused.code != 0 && refused.stderr.contains("date of the chat template"), "{}", refused.stderr);
    run(place, &["train"], &["--set", "model.chat_template_date=soon"]).refused(&[
        "model.chat_template_date",
        "`soon`",
        "2026-01-31",
    ]);
}
