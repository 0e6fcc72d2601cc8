//! The conversation of a row, with the system prompt and the earlier turns that stand in other columns.

use serde_json::{Map, Value};

use super::column_names::{CONVERSATION, SYSTEM};
use super::columns::Tags;
use super::lead::take_lead;
use super::messages::messages;
use crate::json_value::kind;
use crate::message::Message;

/// Whether a row is in the layout of ShareGPT: its turns have `from`, not `role`.
pub(super) fn is_share_gpt(map: &Map<String, Value>, tags: &Tags) -> bool {
    let turns = CONVERSATION.into_iter().filter_map(|key| map.get(key)?.as_array()).flatten();
    let mut turns = turns.map(|turn| turn.get("from").is_some() && turn.get("role").is_none());
    tags.role_tag.as_deref().is_none_or(|tag| tag == "from") && turns.next() == Some(true)
}

/// Takes the conversation out of a row.
pub(super) fn take_messages(map: &mut Map<String, Value>, tags: &Tags) -> Result<Vec<Message>, String> {
    let filled = |key: &&str| map.get(*key).is_some_and(|value| !value.is_null());
    let key = CONVERSATION.into_iter().find(filled);
    let key =
        key.or_else(|| CONVERSATION.into_iter().find(|key| map.contains_key(*key))).unwrap_or("messages");
    let items = match map.shift_remove(key) {
        Some(Value::Array(items)) => items,
        Some(other) => return Err(format!("`{key}` is {}; a list of messages was expected", kind(&other))),
        None => return Err(format!("`{key}` is missing")),
    };
    let mut messages = messages(items, key, tags)?;
    // An empty answer would teach the model to end at once.
    let empty =
        |message: &Message| message.role() == "assistant" && message.is_empty() && message.is_trained();
    if let Some(index) = messages.iter().position(empty) {
        return Err(format!("`{key}[{index}]` is an answer of the assistant without words or calls"));
    }
    with_lead(map, &mut messages, tags)?;
    remove_repeated_prompt(map, &messages);
    Ok(messages)
}

/// Prepends the system prompt and the earlier turns of other columns to `messages`. A system prompt among the
/// messages takes precedence over that of the column, which is then left in the row.
pub(super) fn with_lead(
    map: &mut Map<String, Value>,
    messages: &mut Vec<Message>,
    tags: &Tags,
) -> Result<(), String> {
    let column = map.get(SYSTEM).cloned();
    let mut lead = take_lead(map, tags)?;
    let first = messages.first().filter(|first| first.role() == "system").cloned();
    if let Some(first) = first
        && lead.first().is_some_and(|first| first.role() == "system")
    {
        if first.text() != lead[0].text()
            && let Some(column) = column
        {
            map.insert(SYSTEM.to_owned(), column);
        }
        lead[0] = messages.remove(0);
    }
    messages.splice(0..0, lead);
    Ok(())
}

/// Removes a `prompt` that repeats one of the messages.
fn remove_repeated_prompt(map: &mut Map<String, Value>, messages: &[Message]) {
    if let Some(Value::String(prompt)) = map.get("prompt")
        && messages.iter().filter_map(Message::text).any(|text| text.trim() == prompt.trim())
    {
        map.shift_remove("prompt");
    }
}
