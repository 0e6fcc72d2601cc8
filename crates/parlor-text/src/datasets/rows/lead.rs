//! Messages before a prompt that stand in columns of their own: `system` and `history`. The rules are those of
//! LLaMA-Factory's `AlpacaDatasetConverter`.

use serde_json::{Map, Value};

use super::column_names::{HISTORY, SYSTEM};
use super::columns::Tags;
use super::messages::messages;
use crate::json_value::kind;
use crate::message::Message;

/// Whether a row has such columns. Its texts are turns of a conversation then.
pub(super) fn has_lead(map: &Map<String, Value>) -> bool {
    map.contains_key(SYSTEM) || map.contains_key(HISTORY)
}

/// Takes the system prompt and the earlier turns out of a row.
pub(super) fn take_lead(map: &mut Map<String, Value>, tags: &Tags) -> Result<Vec<Message>, String> {
    let mut lead: Vec<Message> = take_system(map)?.into_iter().collect();
    lead.extend(take_history(map, tags)?);
    Ok(lead)
}

/// Takes the system prompt out of a row; none when it is empty.
fn take_system(map: &mut Map<String, Value>) -> Result<Option<Message>, String> {
    match map.shift_remove(SYSTEM) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(Value::String(text)) => Ok(Some(Message::new("system", &text))),
        Some(other) => Err(format!("`{SYSTEM}` is {}; a text was expected", kind(&other))),
    }
}

/// Earlier turns: pairs of a request and its answer, or messages.
fn take_history(map: &mut Map<String, Value>, tags: &Tags) -> Result<Vec<Message>, String> {
    let value = match map.shift_remove(HISTORY) {
        Some(Value::String(text)) if text.trim().is_empty() => Value::Null,
        Some(Value::String(text)) => serde_json::from_str(&text)
            .map_err(|cause| format!("`{HISTORY}` is a text that is not a JSON list: {cause}"))?,
        other => other.unwrap_or_default(),
    };
    let turns = match value {
        Value::Null => return Ok(Vec::new()),
        Value::Array(turns) if turns.is_empty() => return Ok(Vec::new()),
        Value::Array(turns) => turns,
        other => return Err(format!("`{HISTORY}` is {}; a list of pairs was expected", kind(&other))),
    };
    if turns.iter().all(Value::is_object) {
        return messages(turns, HISTORY, tags);
    }
    let mut earlier = Vec::with_capacity(2 * turns.len());
    for (index, turn) in turns.iter().enumerate() {
        match turn.as_array().map(Vec::as_slice) {
            Some([Value::String(request), Value::String(answer)]) => {
                earlier.extend([Message::new("user", request), Message::new("assistant", answer)]);
            }
            _ => {
                return Err(format!("`{HISTORY}[{index}]` is not a pair of texts, a request and its answer"));
            }
        }
    }
    Ok(earlier)
}
