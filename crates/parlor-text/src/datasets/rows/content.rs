//! Prompts and completions from their columns: plain text or messages.

use serde_json::{Map, Value};

use super::columns::Tags;
use super::messages::messages;
use super::row::Content;
use crate::json_value::kind;
use crate::message::Message;

/// Takes a prompt or a completion out of a row.
pub(super) fn content(map: &mut Map<String, Value>, key: &str, tags: &Tags) -> Result<Content, String> {
    match map.shift_remove(key) {
        Some(Value::Array(items)) => Ok(Content::Messages(messages(items, key, tags)?)),
        Some(message @ Value::Object(_)) => Ok(Content::Messages(messages(vec![message], key, tags)?)),
        Some(Value::String(text)) if !text.trim().is_empty() => Ok(Content::Text(text)),
        Some(Value::String(_) | Value::Null) => Err(format!("`{key}` is empty")),
        Some(other) => Err(format!("`{key}` is {}; a text or a list of messages was expected", kind(&other))),
        None => Err(format!("`{key}` is missing")),
    }
}

/// A text as a message; messages as they are.
pub(super) fn turn(content: Content, role: &str) -> Content {
    match content {
        Content::Text(text) => Content::Messages(vec![Message::new(role, &text)]),
        messages @ Content::Messages(_) => messages,
    }
}

/// Makes a prompt and its completions the same kind of content: where one is messages, texts become turns.
pub(super) fn same_kind<const N: usize>(
    prompt: Content,
    completions: [Content; N],
) -> Result<(Content, [Content; N]), String> {
    let is_text = |content: &Content| matches!(content, Content::Text(_));
    if is_text(&prompt) && completions.iter().all(is_text) {
        return Ok((prompt, completions));
    }
    Ok((turn(prompt, "user"), completions.map(|completion| turn(completion, "assistant"))))
}
