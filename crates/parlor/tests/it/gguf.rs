//! Verbs on a GGUF file: what they say of it, that they answer as the directory it was made from does, and of damaged ones.

use std::path::{Path, PathBuf};

use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::program::parlor;
use crate::tiny::text;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(name)
}

/// A place with the file in it, as `x.gguf`.
fn place(name: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::copy(fixture(name), directory.path().join("x.gguf")).unwrap();
    directory
}

#[test]
fn info_describes_the_file() {
    let directory = place("gguf/qwen2_chat.gguf");
    assert_snapshot!(parlor(directory.path(), &["info", "-m", "x.gguf"]).ok().stdout);
    let value = parlor(directory.path(), &["info", "-m", "x.gguf", "--json"]).ok().json();
    assert_eq!((&value["dtype"], &value["chat_template"]), (&json!("q8_0"), &json!(true)));
}

#[test]
fn damaged_files_and_those_of_others() {
    let said = |name: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let directory = place(name);
        let path = directory.path().join("x.gguf");
        let mut bytes = std::fs::read(&path).unwrap();
        change(&mut bytes);
        std::fs::write(&path, bytes).unwrap();
        parlor(directory.path(), &["info", "-m", "x.gguf"]).refused(&["help:"]).said(directory.path())
    };
    let find = |bytes: &[u8], word: &str| {
        bytes.windows(word.len()).position(|window| window == word.as_bytes()).unwrap() + word.len()
    };
    let chat = "gguf/qwen2_chat.gguf";
    let mut all = String::new();
    for (name, text) in [
        ("cut in the tensors", said(chat, &|bytes| bytes.truncate(bytes.len() - 1))),
        ("cut in the vocabulary", said(chat, &|bytes| bytes.truncate(5000))),
        ("no model at all", said("gguf/qwen2_chat.gguf", &|bytes| *bytes = b"{}".to_vec())),
        (
            "another family",
            said(chat, &|bytes| {
                let at = find(bytes, "general.architecture") + 12;
                bytes[at..at + 5].copy_from_slice(b"mamba");
            }),
        ),
        (
            "a type that is not read",
            said(chat, &|bytes| {
                let at = find(bytes, "blk.1.attn_k.weight") + 20;
                bytes[at] = 10;
            }),
        ),
        (
            "another way to cut words",
            said(chat, &|bytes| {
                let at = find(bytes, "tokenizer.ggml.pre") + 16;
                bytes[at] = b'9';
            }),
        ),
    ] {
        all.push_str(&format!("== {name}\n{text}\n"));
    }
    assert_snapshot!(all);
}

#[test]
fn text_is_what_the_directory_makes_of_it() {
    let (file, original) = (fixture("gguf/qwen2_chat.gguf"), fixture("models/qwen2_chat"));
    let directory = tempfile::tempdir().unwrap();
    let messages = json!([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "naïve 12"}]);
    std::fs::write(directory.path().join("m.json"), messages.to_string()).unwrap();
    for verb in [&["tokenize", "Hello, 1234 naïve"][..], &["render", "--messages", "m.json"]] {
        let both = [&file, &original].map(|model| {
            let args = [verb, &["--json", "-m", text(model)]].concat();
            parlor(directory.path(), &args).ok().json()
        });
        assert_eq!(both[0], both[1], "{verb:?}");
    }
}

#[test]
fn every_verb_that_answers_takes_a_file() {
    let directory = place("gguf/qwen2_chat.gguf");
    let run = |args: &[&str]| parlor(directory.path(), &[args, &["-m", "x.gguf", "--json"]].concat());
    let answer = run(&["generate", "-p", "Hello", "--temperature", "0", "--max-tokens", "5", "--ignore-eos"]);
    assert_eq!(answer.ok().json()["completion_tokens"], 5);
    let scores = run(&["score", "--text", "Hello there"]).ok().json();
    assert!(scores["logprobs"].as_array().is_some_and(|list| list.len() > 1), "{scores}");
    let row = json!({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]});
    std::fs::write(directory.path().join("rows.jsonl"), row.to_string()).unwrap();
    let loss = run(&["eval", "--data", "rows.jsonl"]).ok().json();
    assert!(loss["loss"].as_f64().is_some_and(|loss| loss > 0.0), "{loss}");
    // The original is f32; the file holds 8 bits.
    let original = fixture("models/qwen2_chat");
    let args = ["score", "--text", "Hello there", "--json", "-m", text(&original)];
    let exact: Value = parlor(directory.path(), &args).ok().json();
    let both = scores["logprobs"].as_array().unwrap().iter().zip(exact["logprobs"].as_array().unwrap());
    for (ours, exact) in both.skip(1) {
        let difference = (ours.as_f64().unwrap() - exact.as_f64().unwrap()).abs();
        assert!(difference < 0.25, "{ours} {exact}");
    }
    let chat = parlor(directory.path(), &["chat", "-m", "x.gguf", "--max-tokens", "2"]);
    chat.ok();
}
