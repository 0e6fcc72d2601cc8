//! Models and configs as people have them, through the program: what it says, how it ends, where it looks.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::program::{Ended, parlor};
use crate::tiny::{CONFIG, copy, copy_files, model, workplace};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(name)
}

/// It failed while running: exit code 1, nothing on stdout, and these words on stderr.
#[track_caller]
fn failed(ended: &Ended, words: &[&str]) {
    assert_eq!((ended.code, ended.stdout.as_str()), (1, ""), "{}", ended.stderr);
    for word in words {
        assert!(ended.stderr.contains(word), "`{word}` is not in:\n{}", ended.stderr);
    }
}

#[test]
fn a_model_whose_weights_are_no_numbers_gives_no_results() {
    let directory = copy();
    let path = directory.path().join("model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let list: Value = serde_json::from_slice(&bytes[8..header]).unwrap();
    let tensor = "model.layers.1.mlp.up_proj.weight";
    let start = header + list[tensor]["data_offsets"][0].as_u64().unwrap() as usize;
    bytes[start..start + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(&path, bytes).unwrap();
    std::fs::write(
        directory.path().join("rows.jsonl"),
        r#"{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}"#,
    )
    .unwrap();
    for args in [
        &["score", "-m", ".", "--text", "What colour", "--json"][..],
        &["score", "-m", ".", "--ids", "5,6,7", "--top", "2"],
        &["eval", "-m", ".", "--data", "rows.jsonl", "--json"],
        &["generate", "-m", ".", "-p", "What colour", "--json"],
    ] {
        failed(&parlor(directory.path(), args), &[tensor, "NaN"]);
    }
}

#[test]
fn warnings_of_loading_reach_every_verb() {
    let directory = copy();
    let path = directory.path().join("config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    config["architectures"] = json!(["MistralForCausalLM"]);
    std::fs::write(&path, config.to_string()).unwrap();
    for args in [&["info", "-m", "."][..], &["score", "-m", ".", "--text", "What"]] {
        let ended = parlor(directory.path(), args);
        assert!(ended.stderr.contains("MistralForCausalLM"), "{args:?}: {}", ended.stderr);
    }
}

/// A vocabulary can be used without a model that runs, but not silently.
#[test]
fn the_vocabulary_of_a_gguf_file_of_another_family() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.gguf");
    let mut bytes = std::fs::read(fixture("gguf/qwen2_chat.gguf")).unwrap();
    let key = b"general.architecture";
    let at = bytes.windows(key.len()).position(|window| window == key).unwrap() + key.len() + 12;
    bytes[at..at + 5].copy_from_slice(b"mamba");
    std::fs::write(&path, bytes).unwrap();
    std::fs::write(directory.path().join("m.json"), r#"[{"role": "user", "content": "Hi"}]"#).unwrap();
    for args in [&["tokenize", "Hi", "-m", "x.gguf"][..], &["render", "-m", "x.gguf", "--messages", "m.json"]]
    {
        let ended = parlor(directory.path(), args).ok();
        assert!(ended.stderr.contains("`mamba`") && !ended.stdout.is_empty(), "{}", ended.stderr);
    }
    parlor(directory.path(), &["info", "-m", "x.gguf"]).refused(&["`mamba` are not supported"]);
}

#[test]
fn a_git_lfs_pointer_is_named_by_every_verb() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n";
    for (file, args) in [
        ("tokenizer.json", &["tokenize", "Hi", "-m", "."][..]),
        ("tokenizer.json", &["generate", "-m", ".", "-p", "Hi"]),
        ("model.safetensors", &["info", "-m", "."]),
        ("model.safetensors", &["score", "-m", ".", "--text", "Hi"]),
    ] {
        let directory = copy();
        std::fs::write(directory.path().join(file), pointer).unwrap();
        parlor(directory.path(), args).refused(&[
            "this is a Git LFS pointer, not the file",
            "git lfs pull",
            file,
        ]);
    }
}

#[test]
fn relative_paths_of_a_config_file_are_looked_for_beside_it_too() {
    let directory = workplace();
    let project = directory.path().join("project");
    std::fs::create_dir(&project).unwrap();
    std::fs::create_dir(project.join("base")).unwrap();
    copy_files(&model(), &project.join("base"));
    std::fs::rename(directory.path().join("data"), project.join("data")).unwrap();
    std::fs::remove_file(directory.path().join("config.yaml")).unwrap();
    std::fs::write(project.join("config.yaml"), format!("model:\n  name: base\n{CONFIG}")).unwrap();
    let config = ["-c", "project/config.yaml"];
    let run = |args: &[&str]| parlor(directory.path(), &[args, &config].concat());
    let base = parlor(&project, &["info", "-m", "base", "--json"]).ok().json();
    assert_eq!(run(&["info", "--json"]).ok().json(), base);
    run(&["tokenize", "Hi"]).ok();
    let sft = ["--set", "training.training_type=sft", "--set", "training.output_dir=out"];
    run(&[&["train", "--max-steps", "1"][..], &sft].concat()).ok();
    assert!(directory.path().join("out/run.json").exists());
    // The working directory comes first.
    copy_files(&fixture("models/qwen2_chat"), &{
        let here = directory.path().join("base");
        std::fs::create_dir(&here).unwrap();
        here
    });
    assert_ne!(run(&["info", "--json"]).ok().json()["vocab_size"], base["vocab_size"]);
    std::fs::remove_dir_all(directory.path().join("base")).unwrap();

    // What is in neither place is said with both.
    std::fs::rename(project.join("base"), project.join("moved")).unwrap();
    let sft = ["--set", "training.training_type=sft", "--set", "training.output_dir=out2"];
    let words = ["`model.name`", "base in the working directory", "project/base"];
    for verb in [&["info"][..], &["tokenize", "Hi"], &[&["train"][..], &sft].concat()] {
        let ended = run(verb).refused(&words);
        assert!(!ended.stderr.contains("hf download"), "{}", ended.stderr);
    }
    std::fs::rename(project.join("moved"), project.join("base")).unwrap();
    std::fs::rename(project.join("data/train.jsonl"), project.join("data/rows.jsonl")).unwrap();
    run(&[&["train"][..], &sft].concat()).refused(&["data/train.jsonl", "project/data/train.jsonl"]);
}
