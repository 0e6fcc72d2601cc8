//! The kinds of rows, told apart by their keys, checked, and brought to one shape each.
//!
//! Names are TRL's (`messages`, `prompt`/`completion`, `prompt`/`chosen`/`rejected`, `prompt`/`completion`/`label`,
//! `text`), Alpaca's (`instruction`/`input`/`output`) and ShareGPT's (`conversations` with `from`/`value`).

use serde::Serialize;
use serde_json::{Map, Value};

use super::preference::{preference, unpaired, verdict};
use crate::chat::{Message, kind};

/// What kind of row a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RowKind {
    /// `messages`, or `conversations`.
    Messages,
    /// `instruction`, `input`, `output`.
    Instruction,
    /// `prompt`, `completion`.
    PromptCompletion,
    /// `text`, or a text file.
    Text,
    /// `prompt`, `chosen`, `rejected`.
    Preference,
    /// `prompt`, `completion`, `label`.
    Unpaired,
}

impl std::fmt::Display for RowKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            RowKind::Messages => "messages",
            RowKind::Instruction => "instruction",
            RowKind::PromptCompletion => "prompt_completion",
            RowKind::Text => "text",
            RowKind::Preference => "preference",
            RowKind::Unpaired => "unpaired",
        })
    }
}

/// A prompt or an answer: plain text, or messages.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// Plain text, used as it is.
    Text(String),
    /// Messages, rendered by the chat template.
    Messages(Vec<Message>),
}

/// A usable row.
#[derive(Clone, Debug, PartialEq)]
pub enum Row {
    /// A conversation.
    Messages {
        /// Its messages, at least one.
        messages: Vec<Message>,
        /// JSON Schemas of the tools it may use.
        tools: Option<Vec<Value>>,
    },
    /// An instruction with its answer.
    Instruction {
        /// What to do.
        instruction: String,
        /// What to do it with; may be empty.
        input: String,
        /// The answer.
        output: String,
    },
    /// A text and how it goes on.
    PromptCompletion {
        /// The beginning.
        prompt: Content,
        /// The rest.
        completion: Content,
    },
    /// A text.
    Text(String),
    /// Two answers to one prompt, one better than the other.
    Preference {
        /// The prompt.
        prompt: Content,
        /// The better answer.
        chosen: Content,
        /// The worse one.
        rejected: Content,
    },
    /// An answer to a prompt, and whether it is a good one.
    Unpaired {
        /// The prompt.
        prompt: Content,
        /// The answer.
        completion: Content,
        /// Whether it is wanted.
        desirable: bool,
    },
}

/// The names that are looked for in a row.
pub(super) const COLUMNS: &[&str] = &[
    "messages",
    "conversations",
    "conversation",
    "system",
    "tools",
    "chosen",
    "rejected",
    "prompt",
    "completion",
    "label",
    "instruction",
    "input",
    "output",
    "text",
];

impl Row {
    /// The row's kind.
    pub fn kind(&self) -> RowKind {
        match self {
            Row::Messages { .. } => RowKind::Messages,
            Row::Instruction { .. } => RowKind::Instruction,
            Row::PromptCompletion { .. } => RowKind::PromptCompletion,
            Row::Text(_) => RowKind::Text,
            Row::Preference { .. } => RowKind::Preference,
            Row::Unpaired { .. } => RowKind::Unpaired,
        }
    }

    /// Recognises and checks a row.
    pub(super) fn from_value(value: Value) -> Result<Self, String> {
        let Value::Object(mut map) = value else {
            return Err(format!("the row is {}, but an object was expected", kind(&value)));
        };
        let has = |key: &str| map.contains_key(key);
        if has("messages") || has("conversations") || has("conversation") {
            return conversation(&mut map);
        }
        if has("chosen") || has("rejected") {
            return preference(&mut map);
        }
        if has("completion")
            && let Some(desirable) = verdict(&map)
        {
            return unpaired(&mut map, desirable);
        }
        if has("prompt") || has("completion") {
            let (prompt, completion) = (content(&mut map, "prompt")?, content(&mut map, "completion")?);
            if matches!((&prompt, &completion), (Content::Text(_), Content::Text(_)))
                || matches!((&prompt, &completion), (Content::Messages(_), Content::Messages(_)))
            {
                return Ok(Row::PromptCompletion { prompt, completion });
            }
            return Err(
                "`prompt` and `completion` must both be texts or both be lists of messages".to_owned()
            );
        }
        if has("instruction") {
            return Ok(Row::Instruction {
                instruction: text(&mut map, "instruction", Empty::Refused)?,
                input: if map.contains_key("input") {
                    text(&mut map, "input", Empty::Allowed)?
                } else {
                    String::new()
                },
                output: text(&mut map, "output", Empty::Refused)?,
            });
        }
        if has("text") {
            return Ok(Row::Text(text(&mut map, "text", Empty::Refused)?));
        }
        let keys: Vec<&str> = map.keys().map(String::as_str).collect();
        Err(format!(
            "unknown kind of row with the keys [{}]; expected `messages`, `conversations`, `instruction` and \
             `output`, `prompt` and `completion`, `prompt`, `chosen` and `rejected`, or `text`",
            keys.join(", ")
        ))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Empty {
    Allowed,
    Refused,
}

fn text(map: &mut Map<String, Value>, key: &str, empty: Empty) -> Result<String, String> {
    match map.remove(key) {
        Some(Value::String(text)) if empty == Empty::Allowed || !text.trim().is_empty() => Ok(text),
        Some(Value::String(_)) => Err(format!("`{key}` is empty")),
        Some(Value::Null) if empty == Empty::Allowed => Ok(String::new()),
        Some(other) => Err(format!("`{key}` is {}; a text was expected", kind(&other))),
        None => Err(format!("`{key}` is missing")),
    }
}

pub(super) fn content(map: &mut Map<String, Value>, key: &str) -> Result<Content, String> {
    match map.remove(key) {
        Some(Value::Array(items)) => Ok(Content::Messages(messages(items, key)?)),
        Some(Value::String(text)) if text.trim().is_empty() => Err(format!("`{key}` is empty")),
        Some(Value::String(text)) => Ok(Content::Text(text)),
        Some(other) => Err(format!("`{key}` is {}; a text or a list of messages was expected", kind(&other))),
        None => Err(format!("`{key}` is missing")),
    }
}

fn conversation(map: &mut Map<String, Value>) -> Result<Row, String> {
    let key = ["messages", "conversations", "conversation"].into_iter().find(|key| map.contains_key(*key));
    let key = key.unwrap_or("messages");
    let items = match map.remove(key) {
        Some(Value::Array(items)) => items,
        Some(other) => return Err(format!("`{key}` is {}; a list of messages was expected", kind(&other))),
        None => return Err(format!("`{key}` is missing")),
    };
    let mut messages = messages(items, key)?;
    // ShareGPT keeps the system prompt beside the turns.
    if let Some(Value::String(system)) = map.remove("system")
        && !system.is_empty()
        && messages.first().is_some_and(|first| first.role() != "system")
    {
        messages.insert(0, Message::new("system", &system));
    }
    let tools = match map.remove("tools") {
        None | Some(Value::Null) => None,
        Some(Value::Array(tools)) => Some(tools),
        Some(Value::String(text)) => Some(
            serde_json::from_str(&text).map_err(|cause| format!("`tools` is not a JSON list: {cause}"))?,
        ),
        Some(other) => return Err(format!("`tools` is {}; a list was expected", kind(&other))),
    };
    Ok(Row::Messages { messages, tools })
}

fn messages(items: Vec<Value>, key: &str) -> Result<Vec<Message>, String> {
    if items.is_empty() {
        return Err(format!("`{key}` is an empty list"));
    }
    let message = |(index, item): (usize, Value)| {
        let at = |why| format!("`{key}[{index}]` {why}");
        Message::from_value(share_gpt(item).map_err(at)?).map_err(at)
    };
    items.into_iter().enumerate().map(message).collect()
}

/// Renames ShareGPT's `from` and `value`; anything else passes as it is.
fn share_gpt(item: Value) -> Result<Value, String> {
    let Value::Object(mut map) = item else { return Ok(item) };
    if map.contains_key("role") || !map.contains_key("from") {
        return Ok(Value::Object(map));
    }
    let role = match map.remove("from").as_ref().and_then(Value::as_str) {
        Some("human" | "user") => "user",
        Some("gpt" | "assistant" | "model" | "chatgpt" | "bing" | "bard") => "assistant",
        Some("system") => "system",
        Some("tool" | "function_response" | "observation") => "tool",
        Some(other) => {
            return Err(format!("has `from: {other}`; expected human, gpt, system or tool"));
        }
        None => return Err("has a `from` that is not a text".to_owned()),
    };
    let mut message = Map::new();
    message.insert("role".to_owned(), role.into());
    message.insert("content".to_owned(), map.remove("value").unwrap_or(Value::Null));
    message.extend(map);
    Ok(Value::Object(message))
}
