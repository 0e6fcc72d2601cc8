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

/// Rows with a bad one, a duplicate, and files of two more formats.
fn mixed() -> tempfile::TempDir {
    let directory = workplace();
    let rows = directory.path().join("rows");
    std::fs::create_dir(&rows).unwrap();
    let row = |question: &str, answer: &str| {
        serde_json::json!({"messages": [
            {"role": "user", "content": question}, {"role": "assistant", "content": answer},
        ]})
    };
    let first = row("What colour is thing 1?", "Thing 1 is red.");
    std::fs::write(rows.join("a.jsonl"), format!("{first}\n{first}\n{{\"messages\": []}}\n")).unwrap();
    std::fs::write(rows.join("b.csv"), "prompt,chosen,rejected\nWhat?,Red,Blue\na,b\n").unwrap();
    std::fs::write(rows.join("c.html"), "<h1>Things</h1><p>They are red.</p>").unwrap();
    directory
}

#[test]
fn validate_says_what_is_wrong_and_what_the_rows_are_like() {
    let directory = mixed();
    let ended = parlor(directory.path(), &["data", "validate", "rows"]);
    assert_eq!(ended.code, 2, "{}", ended.stderr);
    insta::assert_snapshot!(ended.stdout, @r#"
3 files, 4 rows: messages (2), text (1), preference (1)
2 problems:
  rows/a.jsonl:3: `messages` is an empty list
  rows/b.csv:3: 2 fields; the header has 3 (prompt, chosen, rejected). Put a field that holds a separator or a line break in double quotes
characters a row: 12 to 38, half have at most 38, 95% at most 38
         8 - 15       #################### 1
        16 - 31       #################### 1
        32 - 63       ######################################## 2
rows that repeat an earlier one: 1
  rows/a.jsonl:2 as rows/a.jsonl:1
"#);
    let model = model();
    let ended = parlor(directory.path(), &["data", "validate", "rows", "-m", text(&model), "--json"]);
    let value = ended.json();
    assert_eq!((value["rows"].as_u64(), value["duplicate_count"].as_u64()), (Some(4), Some(1)));
    assert_eq!(value["problem_count"], 2);
    let (total, trained) =
        (value["total_tokens"].as_u64().unwrap(), value["trained_tokens"].as_u64().unwrap());
    assert!(trained > 0 && trained < total, "{value}");
    let buckets = value["tokens"]["histogram"].as_array().unwrap();
    assert_eq!(buckets.iter().map(|bucket| bucket[1].as_u64().unwrap()).sum::<u64>(), 4, "{value}");
}

#[test]
fn inspect_colours_what_is_trained_where_that_is_wanted() {
    let directory = mixed();
    let model = model();
    let args =
        ["data", "inspect", "rows", "-m", text(&model), "--rows", "9", "--set", "training.training_type=sft"];
    let shown = |variables: &[(&str, &str)]| {
        let mut command = crate::program::command(directory.path(), &args);
        crate::program::ended(command.envs(variables.iter().copied())).ok().stdout
    };
    insta::assert_snapshot!(shown(&[]), @r#"
3 files, 4 rows: messages (2), text (1), preference (1)
2 problems:
  rows/a.jsonl:3: `messages` is an empty list
  rows/b.csv:3: 2 fields; the header has 3 (prompt, chosen, rejected). Put a field that holds a separator or a line break in double quotes
4 examples, 91 tokens, 36 of them trained (40%)

rows/a.jsonl:1, 33 tokens (trained parts are in «»)
made of messages (user, assistant)
<|im_start|>user
What colour is thing 1?<|im_end|>
<|im_start|>assistant
«Thing 1 is red.<|im_end|>»


rows/a.jsonl:2, 33 tokens (trained parts are in «»)
made of messages (user, assistant)
<|im_start|>user
What colour is thing 1?<|im_end|>
<|im_start|>assistant
«Thing 1 is red.<|im_end|>»


rows/c.html:1, 15 tokens (trained parts are in «»)
made of text
Thing«s

They are red.
<|endoftext|>»

rows/b.csv:2, 10 tokens (trained parts are in «»)
made of prompt (text), chosen (text), rejected (text)
prompt: What?
chosen: «Red<|endoftext|>»
rejected: «Blue<|endoftext|>»
"#);
    assert_eq!(shown(&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]), shown(&[]));
    let coloured = shown(&[("CLICOLOR_FORCE", "1")]);
    assert!(coloured.contains("\u{1b}[32mThing 1 is red.<|im_end|>\u{1b}[0m"), "{coloured}");
}

#[test]
fn convert_writes_other_shapes_and_formats() {
    let directory = workplace();
    let convert = |args: &[&str]| parlor(directory.path(), &[&["data", "convert"], args].concat());
    let value = convert(&["data/train.jsonl", "turns.json", "--to", "conversations", "--json"]).ok().json();
    assert_eq!((value["path"].as_str(), value["rows"].as_u64()), (Some("turns.json"), Some(24)));
    let value = convert(&["turns.json", "back.jsonl.gz", "--to", "messages", "--json"]).ok().json();
    assert_eq!(
        value["bytes"].as_u64(),
        Some(std::fs::metadata(directory.path().join("back.jsonl.gz")).unwrap().len())
    );
    let check = |path: &str| parlor(directory.path(), &["data", "validate", path, "--json"]).ok().json();
    for key in ["rows", "kinds", "characters", "duplicate_count"] {
        assert_eq!(check("back.jsonl.gz")[key], check("data/train.jsonl")[key], "{key}");
    }
    convert(&["data/train.jsonl", "back.jsonl.gz"]).refused(&["back.jsonl.gz", "it exists"]);
    convert(&["data/train.jsonl", "out.parquet"]).refused(&["out.parquet", ".jsonl"]);
    convert(&["data/train.jsonl", "out.jsonl", "--to", "preference"]).refused(&[
        "train.jsonl:1",
        "cannot become `preference`",
        "nothing was written",
    ]);
    assert!(!directory.path().join("out.jsonl").exists());
}

#[test]
fn data_sets_are_mixed_by_their_weights_as_the_config_says() {
    let directory = workplace();
    std::fs::write(directory.path().join("q.csv"), "question,answer\nOne?,1\nTwo?,2\nThree?,3\n").unwrap();
    let config = r#"
data:
  train_data_path: ./data/train
  eval_data_path: ./data/eval
  val_size: 2
  stopping_strategy: all_exhausted
  datasets:
    - {path: data/*.jsonl, weight: 1}
    - {path: q.csv, weight: 0.5, columns: {prompt: question, completion: answer}}
"#;
    std::fs::write(directory.path().join("mix.yaml"), config).unwrap();
    let args = ["-c", "config.yaml", "-c", "mix.yaml", "train", "--max-steps", "1", "--json"];
    let value = parlor(directory.path(), &args).ok().json();
    assert!(value["eval_loss"].as_f64().is_some(), "rows were kept for evaluation: {value}");
    std::fs::write(directory.path().join("mix.yaml"), config.replace(", weight: 0.5", "")).unwrap();
    let args = ["-c", "config.yaml", "-c", "mix.yaml", "config", "validate", "--json"];
    let ended = parlor(directory.path(), &args);
    assert_eq!(
        (ended.code, ended.json()["problems"][0]["path"].as_str()),
        (2, Some("data.datasets.1.weight"))
    );
}
