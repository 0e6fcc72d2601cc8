//! Conversations: OpenAI's and HF's `messages`, ShareGPT's `conversations`, and those with roles of their own names.
//!
//! A function call of ShareGPT's (`function_call`, LLaMA-Factory's `function_tag`) becomes `tool_calls`.

use serde_json::{Map, Value, json};

use super::row::Row;
use crate::chat::{Message, kind};
use crate::dataset_config::Tags;

pub(super) const KEYS: [&str; 3] = ["messages", "conversations", "conversation"];

pub(super) fn conversation(map: &mut Map<String, Value>, tags: &Tags) -> Result<Row, String> {
    let key = KEYS.into_iter().find(|key| map.contains_key(*key)).unwrap_or("messages");
    let items = match map.remove(key) {
        Some(Value::Array(items)) => items,
        Some(other) => return Err(format!("`{key}` is {}; a list of messages was expected", kind(&other))),
        None => return Err(format!("`{key}` is missing")),
    };
    let mut messages = messages(items, key, tags)?;
    // It would teach the model to end at once.
    if let Some(index) = messages.iter().position(|said| said.role() == "assistant" && said.is_empty()) {
        return Err(format!("`{key}[{index}]` is an answer of the assistant without words or calls"));
    }
    // ShareGPT keeps the system prompt beside the turns.
    if let Some(Value::String(system)) = map.remove("system")
        && !system.is_empty()
        && messages.first().is_some_and(|first| first.role() != "system")
    {
        messages.insert(0, Message::new("system", &system));
    }
    Ok(Row::Messages { messages, tools: tools(map.remove("tools"))? })
}

/// Schemas of tools: a list, or JSON of one; each a schema, or JSON of it.
fn tools(value: Option<Value>) -> Result<Option<Vec<Value>>, String> {
    let parsed = |text: &str| {
        serde_json::from_str::<Value>(text).map_err(|cause| format!("`tools` is not a JSON list: {cause}"))
    };
    let value = match value {
        Some(Value::String(text)) if text.trim().is_empty() => None,
        Some(Value::String(text)) => Some(parsed(&text)?),
        other => other,
    };
    let list = match value {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Array(list)) => list,
        Some(other) => return Err(format!("`tools` is {}; a list was expected", kind(&other))),
    };
    let schema = |item: Value| match item {
        Value::String(text) => parsed(&text),
        other => Ok(other),
    };
    list.into_iter().map(schema).collect::<Result<_, _>>().map(Some)
}

pub(super) fn messages(items: Vec<Value>, key: &str, tags: &Tags) -> Result<Vec<Message>, String> {
    if items.is_empty() {
        return Err(format!("`{key}` is an empty list"));
    }
    let message = |(index, item): (usize, Value)| {
        let at = |why| format!("`{key}[{index}]` {why}");
        Message::from_value(renamed(item, tags).map_err(at)?).map_err(at)
    };
    items.into_iter().enumerate().map(message).collect()
}

/// A message under the usual names; one that has them passes as it is.
fn renamed(item: Value, tags: &Tags) -> Result<Value, String> {
    let Value::Object(mut map) = item else { return Ok(item) };
    let usual = map.contains_key("role") || !map.contains_key("from");
    let (role_key, content_key) = if usual { ("role", "content") } else { ("from", "value") };
    let role_key = tags.role_tag.as_deref().unwrap_or(role_key);
    let content_key = tags.content_tag.as_deref().unwrap_or(content_key);
    if *tags == Tags::default() && usual {
        return Ok(Value::Object(map));
    }
    let said = match map.remove(role_key) {
        Some(Value::String(said)) => said,
        Some(_) => return Err(format!("has a `{role_key}` that is not a text")),
        None => return Err(format!("has no `{role_key}`")),
    };
    let content = map.remove(content_key).unwrap_or(Value::Null);
    let mut message = Map::new();
    match role(&said, tags) {
        Some(CALL) => {
            message.insert("role".to_owned(), "assistant".into());
            message.insert("tool_calls".to_owned(), function_calls(&content)?);
        }
        Some(role) => {
            message.insert("role".to_owned(), role.into());
            message.insert("content".to_owned(), content);
        }
        // Templates know more roles than we do.
        None if role_key == "role" => {
            message.insert("role".to_owned(), said.into());
            message.insert("content".to_owned(), content);
        }
        None => {
            return Err(format!(
                "has `{role_key}: {said}`; expected human, gpt, system or tool, or name it in `tags`"
            ));
        }
    }
    message.extend(map);
    Ok(Value::Object(message))
}

/// Not a role of messages: the assistant calls a function.
const CALL: &str = "function_call";

fn role(said: &str, tags: &Tags) -> Option<&'static str> {
    let named = [
        (&tags.user_tag, "user"),
        (&tags.assistant_tag, "assistant"),
        (&tags.observation_tag, "tool"),
        (&tags.function_tag, CALL),
        (&tags.system_tag, "system"),
    ];
    if let Some((_, role)) = named.into_iter().find(|(tag, _)| tag.as_deref() == Some(said)) {
        return Some(role);
    }
    Some(match said {
        "human" | "user" => "user",
        "gpt" | "assistant" | "model" | "chatgpt" | "bing" | "bard" => "assistant",
        "system" => "system",
        "tool" | "function_response" | "observation" => "tool",
        CALL => CALL,
        _ => return None,
    })
}

/// `{"name": ..., "arguments": ...}`, or a list of such, as JSON in a text or as it is.
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
        let name = call.get("name").and_then(Value::as_str);
        let name = name.ok_or("is a function call without a `name`")?;
        let arguments = call.get("arguments").cloned().unwrap_or_else(|| json!({}));
        Ok(json!({ "type": "function", "function": { "name": name, "arguments": arguments } }))
    };
    calls.into_iter().map(call).collect()
}
