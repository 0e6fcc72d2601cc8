//! Model directories that are damaged or do not fit: each ends in exit code 2 with the place and what to do.

use std::path::Path;

use insta::assert_snapshot;
use serde_json::Value;

use crate::program::parlor;
use crate::tiny::{copy, copy_files, model, text, workplace};

fn change(directory: &Path, name: &str, change: impl FnOnce(&mut Value)) {
    let path = directory.join(name);
    let mut value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut value);
    std::fs::write(path, value.to_string()).unwrap();
}

/// What `info` says of a copy of the tiny model after `damage`.
fn refusal(damage: impl FnOnce(&Path)) -> String {
    let directory = copy();
    damage(directory.path());
    parlor(directory.path(), &["info", "-m", "."]).refused(&["help:"]).said(directory.path())
}

#[test]
fn weights_that_are_damaged() {
    let cut = |length: usize| {
        move |directory: &Path| {
            let path = directory.join("model.safetensors");
            let bytes = std::fs::read(&path).unwrap();
            std::fs::write(path, &bytes[..length.min(bytes.len() - 1)]).unwrap();
        }
    };
    let mut all = String::new();
    for (name, text) in [
        ("empty", refusal(cut(0))),
        ("cut in the header", refusal(cut(100))),
        ("cut in the tensors", refusal(cut(usize::MAX))),
        ("absent", refusal(|directory| std::fs::remove_file(directory.join("model.safetensors")).unwrap())),
    ] {
        all.push_str(&format!("== {name}\n{text}\n"));
    }
    assert_snapshot!(all);
}

#[test]
fn configs_that_do_not_fit() {
    let key =
        |name: &'static str| move |config: &mut Value| drop(config.as_object_mut().unwrap().remove(name));
    let mut all = String::new();
    for (name, text) in [
        ("a key is absent", refusal(|directory| change(directory, "config.json", key("hidden_size")))),
        (
            "a tensor has another shape",
            refusal(|d| change(d, "config.json", |config| config["intermediate_size"] = 80.into())),
        ),
        ("an unknown architecture", {
            let names = serde_json::json!(["MambaForCausalLM"]);
            refusal(|d| {
                change(d, "config.json", |config| {
                    config["architectures"] = names;
                    config["model_type"] = "mamba".into();
                });
            })
        }),
        ("not JSON", refusal(|directory| std::fs::write(directory.join("config.json"), "{").unwrap())),
    ] {
        all.push_str(&format!("== {name}\n{text}\n"));
    }
    assert_snapshot!(all);
}

#[test]
fn a_shard_that_the_index_names_is_missing() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/models/llama_sharded");
    let directory = tempfile::tempdir().unwrap();
    copy_files(&fixture, directory.path());
    std::fs::remove_file(directory.path().join("model-00002-of-00003.safetensors")).unwrap();
    parlor(directory.path(), &["info", "-m", "."]).refused(&["model-00002-of-00003.safetensors", "help:"]);
}

#[test]
fn a_tokenizer_with_more_tokens_than_the_embedding() {
    let directory = copy();
    change(directory.path(), "tokenizer.json", |tokenizer| {
        let added = tokenizer["added_tokens"].as_array_mut().unwrap();
        let mut token = added[0].clone();
        token["id"] = 5000.into();
        token["content"] = "<|one too many|>".into();
        added.push(token);
    });
    let row = |text: &str| {
        serde_json::json!({ "messages": [
            { "role": "user", "content": text }, { "role": "assistant", "content": "b" },
        ] })
        .to_string()
    };
    let file = |name: &str, text: String| std::fs::write(directory.path().join(name), text).unwrap();
    file("good.jsonl", row("a"));
    file("bad.jsonl", format!("{}\n{}", row("a"), row("<|one too many|>")));
    // It loads, as in transformers, and says so.
    let info = parlor(directory.path(), &["info", "-m", "."]).ok();
    assert!(
        info.stderr.contains("`<|one too many|>`), but the model's embedding has only 316 rows"),
        "{}",
        info.stderr
    );
    parlor(directory.path(), &["generate", "-m", ".", "-p", "x", "--max-tokens", "2"]).ok();
    parlor(directory.path(), &["eval", "-m", ".", "--data", "good.jsonl"]).ok();
    // That token is what cannot be used.
    let train = [
        "train",
        "--set",
        "model.name=.",
        "--set",
        "training.training_type=sft",
        "--set",
        "training.output_dir=out",
        "--set",
        "data.train_data_path=bad.jsonl",
    ];
    for args in [
        &["generate", "-m", ".", "-p", "<|one too many|>"][..],
        &["score", "-m", ".", "--text", "x<|one too many|>"],
        &["eval", "-m", ".", "--data", "bad.jsonl"],
        &train,
    ] {
        let ended = parlor(directory.path(), args).refused(&["<|one too many|>", "316 rows"]);
        let rows = args.contains(&"bad.jsonl") || args[0] == "train";
        assert!(!rows || ended.stderr.contains("bad.jsonl:2"), "{}", ended.stderr);
    }
}

#[test]
fn templates_that_fail() {
    let directory = copy();
    let template = directory.path().join("chat_template.jinja");
    std::fs::write(directory.path().join("m.json"), r#"[{"role": "user", "content": "Hi"}]"#).unwrap();
    let verbs = [
        &["render", "--messages", "m.json", "-m", "."][..],
        &["generate", "--messages", "m.json", "-m", "."],
    ];
    std::fs::write(&template, "{{ raise_exception('Roles must alternate here') }}").unwrap();
    for verb in verbs {
        parlor(directory.path(), verb).refused(&["Roles must alternate here"]);
    }
    std::fs::write(&template, "{% for message in messages %}{{ message.content }}").unwrap();
    for verb in verbs {
        parlor(directory.path(), verb).refused(&["template", "line"]);
    }
    std::fs::remove_file(&template).unwrap();
    for verb in verbs {
        parlor(directory.path(), verb).refused(&["no chat template", "base model"]);
    }
}

#[test]
fn names_with_typos_without_a_network() {
    let directory = workplace();
    let there = directory.path().join("my-model");
    std::fs::create_dir(&there).unwrap();
    copy_files(&model(), &there);
    let refuse = |args: &[&str], words: &[&str]| parlor(directory.path(), args).refused(words);
    refuse(&["chat", "-m", "my-modle"], &["did you mean `my-model`"]);
    refuse(&["generate", "-p", "x", "-m", "./my-modle"], &["did you mean"]);
    refuse(&["info", "-m", "Qwen/Qwen9-0.1B"], &["Qwen/Qwen9-0.1B", "hf download"]);
    refuse(&["info", "-m", "my-model/config.json"], &["this is a file"]);
    // No model at all: the config names none.
    refuse(&["info"], &["no model is named", "-m"]);
    let train = ["train", "--set", "training.training_type=sft", "--set", "model.name=my-modle"];
    refuse(&train, &["did you mean `my-model`"]);
    assert!(!directory.path().join("out/run.json").exists());
}

#[test]
fn a_length_over_the_models_is_refused_only_when_someone_chose_it() {
    let model = model();
    let directory = tempfile::tempdir().unwrap();
    let info = |flag: &str| parlor(directory.path(), &["info", "-m", text(&model), "--set", flag]);
    info("model.max_length=9999").refused(&["9999", "256", "model.max_length"]);
    info("model.max_length=100").ok();
    info("model.device=auto").ok();
    let row = r#"{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}"#;
    std::fs::write(directory.path().join("rows.jsonl"), row).unwrap();
    let name = format!("model.name={}", text(&model));
    let settings = [
        "training.training_type=sft",
        "training.output_dir=out",
        "data.train_data_path=rows.jsonl",
        "model.max_length=9999",
        &name,
    ];
    let mut train = vec!["train"];
    settings.iter().for_each(|setting| train.extend(["--set", *setting]));
    parlor(directory.path(), &train).refused(&["9999", "256", "model.max_length"]);
    // The file that `init` writes repeats the default, which no tiny model reaches.
    parlor(directory.path(), &["init"]).ok();
    parlor(directory.path(), &["info", "-m", text(&model)]).ok();
}
