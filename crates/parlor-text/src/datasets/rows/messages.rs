//! Lists of messages: OpenAI's and HF's, ShareGPT's, and those with keys and roles of their own names.
//!
//! A function call of ShareGPT's (`function_call`, LLaMA-Factory's `function_tag`) becomes `tool_calls`.

use serde_json::{Map, Value, json};

use super::columns::Tags;
use super::content_parts::joined;
use crate::message::Message;

/// The messages of the list in column `key`.
///
/// # Errors
/// What is wrong with one of them, with its index.
pub(super) fn messages(items: Vec<Value>, key: &str, tags: &Tags) -> Result<Vec<Message>, String> {
    if items.is_empty() {
        return Err(format!("`{key}` is an empty list"));
    }
    let message = |(index, item): (usize, Value)| {
        let at = |why| format!("`{key}[{index}]` {why}");
        let mut item = renamed(item, tags).map_err(at)?;
        if let Value::Object(map) = &mut item {
            joined(map).map_err(at)?;
        }
        let message = Message::from_value(item).map_err(at)?;
        message.check_flags().map_err(at)?;
        Ok(message)
    };
    items.into_iter().enumerate().map(message).collect()
}

/// A message with the usual keys and roles.
fn renamed(item: Value, tags: &Tags) -> Result<Value, String> {
    let Value::Object(mut map) = item else { return Ok(item) };
    let usual = map.contains_key("role") || !map.contains_key("from");
    let (role_key, content_key) = if usual { ("role", "content") } else { ("from", "value") };
    let role_key = tags.role_tag.as_deref().unwrap_or(role_key);
    let content_key = tags.content_tag.as_deref().unwrap_or(content_key);
    if *tags == Tags::default() && usual {
        return Ok(Value::Object(map));
    }
    let name = match map.shift_remove(role_key) {
        Some(Value::String(name)) => name,
        Some(_) => return Err(format!("has a `{role_key}` that is not a text")),
        None => return Err(format!("has no `{role_key}`")),
    };
    let content = map.shift_remove(content_key).unwrap_or(Value::Null);
    let mut message = Map::new();
    match role(&name, tags) {
        Some(CALL) => {
            message.insert("role".to_owned(), "assistant".into());
            message.insert("content".to_owned(), "".into());
            message.insert("tool_calls".to_owned(), function_calls(&content)?);
        }
        Some(role) => {
            message.insert("role".to_owned(), role.into());
            message.insert("content".to_owned(), content);
        }
        // Templates may know further roles.
        None if role_key == "role" => {
            message.insert("role".to_owned(), name.into());
            message.insert("content".to_owned(), content);
        }
        None => {
            return Err(format!(
                "has `{role_key}: {name}`; expected human, gpt, system or tool, or name it in `tags`"
            ));
        }
    }
    message.extend(map);
    Ok(Value::Object(message))
}

/// The role of a function call, which becomes a message of the assistant.
const CALL: &str = "function_call";

fn role(name: &str, tags: &Tags) -> Option<&'static str> {
    let named = [
        (&tags.user_tag, "user"),
        (&tags.assistant_tag, "assistant"),
        (&tags.observation_tag, "tool"),
        (&tags.function_tag, CALL),
        (&tags.system_tag, "system"),
    ];
    if let Some((_, role)) = named.into_iter().find(|(tag, _)| tag.as_deref() == Some(name)) {
        return Some(role);
    }
    Some(match name {
        "human" | "user" => "user",
        "gpt" | "assistant" | "model" | "chatgpt" | "bing" | "bard" => "assistant",
        "system" => "system",
        "tool" | "function_response" | "observation" => "tool",
        CALL => CALL,
        _ => return None,
    })
}

/// Tool calls from `{"name": ..., "arguments": ...}` or a list of such objects, as JSON or as a text that
/// holds JSON.
fn function_calls(content: &Value) -> Result<Value, String> {
    let parsed = match content {
        Value::String(text) => serde_json::from_str(text)
            .map_err(|cause| format!("is a function call, but its content is not JSON: {cause}"))?,
        other => other.clone(),
    };
    let calls = match parsed {
        Value::Array(calls) => calls,
        call => vec![call],
    };
    let call = |call: Value| {
        let Value::Object(mut function) = call else {
            return Err("is a function call that is not an object with `name` and `arguments`".to_owned());
        };
        if !function.get("name").is_some_and(Value::is_string) {
            return Err("is a function call without a `name`".to_owned());
        }
        function.entry("arguments").or_insert_with(|| json!({}));
        let mut call = Map::new();
        if let Some(id) = function.shift_remove("id") {
            call.insert("id".to_owned(), id);
        }
        call.insert("type".to_owned(), "function".into());
        call.insert("function".to_owned(), Value::Object(function));
        Ok(Value::Object(call))
    };
    calls.into_iter().map(call).collect()
}
