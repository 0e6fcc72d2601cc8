//! Conversations: OpenAI's and HF's `messages`, ShareGPT's `conversations`, and those with roles of their own names.
//!
//! A function call of ShareGPT's (`function_call`, LLaMA-Factory's `function_tag`) becomes `tool_calls`.

use serde_json::{Map, Value, json};

use super::parts::joined;
use super::row::Row;
use super::turns::{SYSTEM, take_lead};
use crate::chat::{Message, kind};
use crate::dataset_config::Tags;

pub(super) const KEYS: [&str; 3] = ["messages", "conversations", "conversation"];

/// `messages`, with the system prompt that may stand beside them.
pub(super) fn conversation(map: &mut Map<String, Value>, tags: &Tags) -> Result<Row, String> {
    let messages = take_messages(map, tags)?;
    Ok(Row::Messages { messages })
}

/// Whether the turns of a row say `from`, not `role`.
pub(super) fn is_share_gpt(map: &Map<String, Value>, tags: &Tags) -> bool {
    let turns = KEYS.into_iter().filter_map(|key| map.get(key)?.as_array()).flatten();
    let mut turns = turns.map(|turn| turn.get("from").is_some() && turn.get("role").is_none());
    tags.role_tag.as_deref().is_none_or(|tag| tag == "from") && turns.next() == Some(true)
}

/// The conversation of a row.
pub(super) fn take_messages(map: &mut Map<String, Value>, tags: &Tags) -> Result<Vec<Message>, String> {
    let filled = |key: &&str| map.get(*key).is_some_and(|value| !value.is_null());
    let key = KEYS.into_iter().find(filled);
    let key = key.or_else(|| KEYS.into_iter().find(|key| map.contains_key(*key))).unwrap_or("messages");
    let items = match map.shift_remove(key) {
        Some(Value::Array(items)) => items,
        Some(other) => return Err(format!("`{key}` is {}; a list of messages was expected", kind(&other))),
        None => return Err(format!("`{key}` is missing")),
    };
    let mut messages = messages(items, key, tags)?;
    // It would teach the model to end at once.
    let empty = |said: &Message| said.role() == "assistant" && said.is_empty() && said.is_trained();
    if let Some(index) = messages.iter().position(empty) {
        return Err(format!("`{key}[{index}]` is an answer of the assistant without words or calls"));
    }
    with_lead(map, &mut messages, tags)?;
    repeats(map, &messages);
    Ok(messages)
}

/// Puts the system prompt and the earlier turns that stand beside messages before them. A system prompt among the messages
/// goes before one beside them, which is then left in the row.
pub(super) fn with_lead(
    map: &mut Map<String, Value>,
    messages: &mut Vec<Message>,
    tags: &Tags,
) -> Result<(), String> {
    let beside = map.get(SYSTEM).cloned();
    let mut lead = take_lead(map, tags)?;
    let own = messages.first().filter(|first| first.role() == "system").cloned();
    if let Some(own) = own
        && lead.first().is_some_and(|first| first.role() == "system")
    {
        if own.text() != lead[0].text()
            && let Some(beside) = beside
        {
            map.insert(SYSTEM.to_owned(), beside);
        }
        lead[0] = messages.remove(0);
    }
    messages.splice(0..0, lead);
    Ok(())
}

/// Takes out of the row what says again what one of its messages says.
fn repeats(map: &mut Map<String, Value>, messages: &[Message]) {
    if let Some(Value::String(prompt)) = map.get("prompt")
        && messages.iter().filter_map(Message::text).any(|text| text.trim() == prompt.trim())
    {
        map.shift_remove("prompt");
    }
}

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
    let said = match map.shift_remove(role_key) {
        Some(Value::String(said)) => said,
        Some(_) => return Err(format!("has a `{role_key}` that is not a text")),
        None => return Err(format!("has no `{role_key}`")),
    };
    let content = map.shift_remove(content_key).unwrap_or(Value::Null);
    let mut message = Map::new();
    match role(&said, tags) {
        Some(CALL) => {
            message.insert("role".to_owned(), "assistant".into());
            message.insert("content".to_owned(), "".into());
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
