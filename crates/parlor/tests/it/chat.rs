//! `parlor chat` line by line, as scripts use it.

use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::program::{Ended, command, parlor};
use crate::tiny::{copy, model, text};

fn chat(directory: &Path, args: &[&str], input: &str) -> Ended {
    let mut command = command(directory, &[&["chat"], args].concat());
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    Ended {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn answers(ended: Ended) -> Vec<Value> {
    ended.ok().stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_conversation_goes_on_and_can_be_forgotten() {
    let directory = tempfile::tempdir().unwrap();
    let model = model();
    let args = ["-m", text(&model), "--temperature", "0", "--max-tokens", "16", "--json"];
    let question = "What colour is train thing 3?\n";
    let once = answers(chat(directory.path(), &args, question));
    assert_eq!(once.len(), 1);
    let tokens = |value: &Value| value["prompt_tokens"].as_u64().unwrap();
    let input = format!("{question}\n{question}/reset\n{question}/exit\n{question}");
    let several = answers(chat(directory.path(), &args, &input));
    assert_eq!(several.len(), 3, "an empty line asks nothing, and /exit leaves");
    assert_eq!(several[0]["ids"], once[0]["ids"]);
    assert!(tokens(&several[1]) > tokens(&several[0]), "the second question stands after the first");
    assert_eq!(tokens(&several[2]), tokens(&several[0]), "/reset forgets");
    // The answer is the one that `generate --messages` gives.
    let messages = json!([{"role": "user", "content": question.trim()}]);
    std::fs::write(directory.path().join("m.json"), messages.to_string()).unwrap();
    let same = parlor(directory.path(), &[&["generate", "--messages", "m.json"], &args[..]].concat());
    assert_eq!(same.ok().json()["ids"], once[0]["ids"]);
}

#[test]
fn a_conversation_longer_than_the_model_loses_its_beginning() {
    let directory = tempfile::tempdir().unwrap();
    let model = model();
    let args = ["-m", text(&model), "--temperature", "0", "--max-tokens", "40", "--json"];
    let input = "What colour is train thing 3?\n".repeat(12);
    let ended = chat(directory.path(), &args, &input);
    assert!(ended.stderr.contains("beginning is left out"), "{}", ended.stderr);
    let answers = answers(ended);
    assert_eq!(answers.len(), 12);
    assert!(answers.iter().all(|answer| answer["prompt_tokens"].as_u64().unwrap() < 256));
}

#[test]
fn commands_and_text_output() {
    let directory = tempfile::tempdir().unwrap();
    let model = model();
    let args = ["-m", text(&model), "--temperature", "0", "--max-tokens", "8"];
    let ended = chat(directory.path(), &args, "/help\n/rest\nHi\n").ok();
    assert!(ended.stderr.contains("/reset   forgets"), "{}", ended.stderr);
    assert!(ended.stderr.contains("There is no /rest"), "{}", ended.stderr);
    assert!(ended.stdout.ends_with('\n') && !ended.stdout.contains("/help"), "{}", ended.stdout);
}

#[test]
fn a_base_model_does_not_chat_and_says_so() {
    let directory = copy();
    std::fs::remove_file(directory.path().join("chat_template.jinja")).unwrap();
    chat(directory.path(), &["-m", "."], "Hi\n").refused(&[
        "no chat template",
        "base model",
        "parlor generate",
    ]);
}
