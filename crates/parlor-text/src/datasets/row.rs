//! The kinds of rows, told apart by their keys, checked, and brought to one shape each.
//!
//! Names are TRL's (`messages`, `prompt`/`completion`, `prompt`/`chosen`/`rejected`, `prompt`/`completion`/`label`,
//! `text`), Alpaca's (`instruction`/`input`/`output`) and ShareGPT's (`conversations` with `from`/`value`).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::conversation::{self, conversation, messages};
use super::options::ReadOptions;
use super::preference::{preference, unpaired, verdict};
use crate::chat::{Message, kind};
use crate::dataset_config::Tags;

/// What kind of row a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
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
    pub(super) fn from_value(value: Value, options: &ReadOptions) -> Result<Self, String> {
        let Value::Object(map) = value else {
            return Err(format!("the row is {}, but an object was expected", kind(&value)));
        };
        let mut map = options.renamed(map)?;
        let tags = &options.tags;
        match options.kind.map_or_else(|| recognise(&map), Ok)? {
            RowKind::Messages => conversation(&mut map, tags),
            RowKind::Preference => preference(&mut map, tags),
            RowKind::Unpaired => unpaired(&mut map, tags),
            RowKind::PromptCompletion => prompt_completion(&mut map, tags),
            RowKind::Instruction => Ok(Row::Instruction {
                instruction: text(&mut map, "instruction", Empty::Refused)?,
                input: if map.contains_key("input") {
                    text(&mut map, "input", Empty::Allowed)?
                } else {
                    String::new()
                },
                output: text(&mut map, "output", Empty::Refused)?,
            }),
            RowKind::Text => Ok(Row::Text(text(&mut map, "text", Empty::Refused)?)),
        }
    }
}

/// What a row's columns say it is.
fn recognise(map: &Map<String, Value>) -> Result<RowKind, String> {
    let has = |key: &str| map.contains_key(key);
    if conversation::KEYS.into_iter().any(has) {
        return Ok(RowKind::Messages);
    }
    if has("chosen") || has("rejected") {
        return Ok(RowKind::Preference);
    }
    if has("completion") && verdict(map).is_some() {
        return Ok(RowKind::Unpaired);
    }
    let kinds = [
        ("prompt", RowKind::PromptCompletion),
        ("completion", RowKind::PromptCompletion),
        ("instruction", RowKind::Instruction),
        ("text", RowKind::Text),
    ];
    if let Some((_, kind)) = kinds.into_iter().find(|(key, _)| has(key)) {
        return Ok(kind);
    }
    let keys: Vec<&str> = map.keys().map(String::as_str).collect();
    Err(format!(
        "unknown kind of row with the keys [{}]; expected `messages`, `conversations`, `instruction` and \
         `output`, `prompt` and `completion`, `prompt`, `chosen` and `rejected`, or `text`; other names are told by \
         `data.columns`",
        keys.join(", ")
    ))
}

fn prompt_completion(map: &mut Map<String, Value>, tags: &Tags) -> Result<Row, String> {
    let (prompt, completion) = (content(map, "prompt", tags)?, content(map, "completion", tags)?);
    match (&prompt, &completion) {
        (Content::Text(_), Content::Text(_)) | (Content::Messages(_), Content::Messages(_)) => {
            Ok(Row::PromptCompletion { prompt, completion })
        }
        _ => Err(UNLIKE.to_owned()),
    }
}

pub(super) const UNLIKE: &str = "`prompt` and `completion` must both be texts or both be lists of messages";

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

pub(super) fn content(map: &mut Map<String, Value>, key: &str, tags: &Tags) -> Result<Content, String> {
    match map.remove(key) {
        Some(Value::Array(items)) => Ok(Content::Messages(messages(items, key, tags)?)),
        Some(Value::String(text)) if text.trim().is_empty() => Err(format!("`{key}` is empty")),
        Some(Value::String(text)) => Ok(Content::Text(text)),
        Some(other) => Err(format!("`{key}` is {}; a text or a list of messages was expected", kind(&other))),
        None => Err(format!("`{key}` is missing")),
    }
}
