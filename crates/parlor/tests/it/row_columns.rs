//! Columns of rows through the program: what is used is shown, what is not is named, and rows that the template refuses are
//! listed or left out.

use crate::program::parlor;
use crate::tiny::{model, text, workplace};

const WITH_TOOLS: &str = r#"{"prompt": [{"role": "user", "content": "Q"}], "completion": [{"role": "assistant", "content": "A"}], "tools": [{"type": "function", "function": {"name": "add"}}], "chat_template_kwargs": {"level": 12345678901234567890123}, "source": "web"}"#;

#[test]
fn what_a_row_is_made_of_is_shown_and_converted() {
    let directory = workplace();
    std::fs::write(directory.path().join("a.jsonl"), format!("{WITH_TOOLS}\n")).unwrap();
    let model = model();
    let shown = parlor(directory.path(), &["data", "inspect", "a.jsonl", "-m", text(&model)]).ok().stdout;
    assert!(shown.contains("a.jsonl: not used: `source`"), "{shown}");
    let made_of = "made of prompt (user), completion (assistant), tools (add), \
                   chat_template_kwargs (level: 12345678901234567890123)";
    assert!(shown.contains(made_of), "{shown}");
    let value =
        parlor(directory.path(), &["data", "inspect", "a.jsonl", "-m", text(&model), "--json"]).ok().json();
    assert_eq!(value["first_rows"][0]["made_of"].as_array().unwrap().len(), 4, "{value}");
    assert_eq!(value["unused"][0]["columns"][0], "source", "{value}");
    let ended = parlor(directory.path(), &["data", "convert", "a.jsonl", "b.jsonl", "--to", "messages"]).ok();
    assert!(ended.stderr.contains("not used: `source`"), "{}", ended.stderr);
    let written = std::fs::read_to_string(directory.path().join("b.jsonl")).unwrap();
    assert!(written.contains(r#""tools":[{"type":"function","function":{"name":"add"}}]"#), "{written}");
    assert!(written.contains(r#""chat_template_kwargs":{"level":12345678901234567890123}"#), "{written}");
    let ended = parlor(directory.path(), &["data", "validate", "a.jsonl"]).ok();
    assert!(ended.stdout.contains("a.jsonl: not used: `source`"), "{}", ended.stdout);
}

#[test]
fn columns_that_are_not_used_are_named_before_training() {
    let directory = workplace();
    let row = r#"{"id": 3, "text": "copy", "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}"#;
    std::fs::write(directory.path().join("data/train.jsonl"), format!("{row}\n{row}\n")).unwrap();
    let ended = parlor(directory.path(), &["train", "--max-steps", "1"]).ok();
    assert!(ended.stderr.contains("train.jsonl:1: `text` is not used"), "{}", ended.stderr);
    assert!(ended.stderr.contains("train.jsonl: not used: `id`"), "{}", ended.stderr);
    assert_eq!(ended.stderr.matches("not used: `id`").count(), 1, "{}", ended.stderr);
}
