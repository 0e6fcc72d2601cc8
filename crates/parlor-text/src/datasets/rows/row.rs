//! The kinds of rows, told apart by their keys, checked, and brought to one shape each.
//!
//! Names are TRL's (`messages`, `prompt`/`completion`, `prompt`/`chosen`/`rejected`, `prompt`/`completion`/`label`,
//! `text`), Alpaca's (`instruction`/`input`/`output`) and ShareGPT's (`conversations` with `from`/`value`).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::conversation::{KEYS, conversation, is_share_gpt, messages, with_lead};
use super::label::LABEL;
use super::options::ReadOptions;
use super::preference::{alike, preference, turn, unpaired};
use super::template_inputs::{DOCUMENTS, KWARGS, TOOLS, TemplateInputs};
use super::turns::{HISTORY, SYSTEM, has_lead, request, take_lead};
use crate::chat::{Message, is_nothing, kind};
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
    },
    /// An instruction with its answer.
    Instruction {
        /// What to do.
        instruction: String,
        /// What to do it with; may be empty.
        input: String,
        /// The answer.
        output: String,
        /// What comes before it: the system prompt, and the turns of `history`.
        lead: Vec<Message>,
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
    SYSTEM,
    HISTORY,
    TOOLS,
    DOCUMENTS,
    KWARGS,
    "chosen",
    "rejected",
    "prompt",
    "question",
    "completion",
    LABEL,
    KTO_TAG,
    "instruction",
    "input",
    "output",
    "text",
    "image",
    "images",
    "video",
    "videos",
    "audio",
    "audios",
];

/// Another name of `label`: LLaMA-Factory's.
const KTO_TAG: &str = "kto_tag";
/// What no text is made of.
const MEDIA: [&str; 6] = ["image", "images", "video", "videos", "audio", "audios"];

/// A row, and what of it was used.
pub(super) struct Reading {
    pub(super) row: Row,
    pub(super) inputs: TemplateInputs,
    /// Columns that hold something and that nothing was made of.
    pub(super) unused: Vec<String>,
}

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

    /// The row as one conversation, where it is one: what the chat template renders.
    pub fn conversation(&self) -> Option<Vec<Message>> {
        match self {
            Row::Messages { messages } => Some(messages.clone()),
            Row::Instruction { instruction, input, output, lead } => {
                let mut messages = lead.clone();
                messages.extend([request(instruction, input), Message::new("assistant", output)]);
                Some(messages)
            }
            Row::PromptCompletion { prompt, completion: answer }
            | Row::Unpaired { prompt, completion: answer, .. }
            | Row::Preference { prompt, chosen: answer, .. } => match (prompt, answer) {
                (Content::Messages(prompt), Content::Messages(answer)) => {
                    Some([&prompt[..], answer].concat())
                }
                _ => None,
            },
            Row::Text(_) => None,
        }
    }

    /// Whether a chat template renders it, where there is one.
    fn is_rendered(&self) -> bool {
        match self {
            Row::Messages { .. } | Row::Instruction { .. } => true,
            Row::PromptCompletion { prompt, .. }
            | Row::Preference { prompt, .. }
            | Row::Unpaired { prompt, .. } => matches!(prompt, Content::Messages(_)),
            Row::Text(_) => false,
        }
    }

    /// Recognises and checks a row.
    pub(super) fn from_value(value: Value, options: &ReadOptions) -> Result<Reading, String> {
        let Value::Object(map) = value else {
            return Err(format!("the row is {}, but an object was expected", kind(&value)));
        };
        let (mut map, mut unused) = options.renamed(map)?;
        if !map.contains_key(LABEL)
            && let Some(label) = map.shift_remove(KTO_TAG)
        {
            map.insert(LABEL.to_owned(), label);
        }
        let tags = &options.tags;
        let kind = options.kind.map_or_else(|| recognise(&map), Ok)?;
        if let Some(name) = MEDIA.into_iter().find(|name| filled(&map, name) && kind != RowKind::Text) {
            return Err(format!(
                "`{name}` holds what is not text; only text is trained on: leave such rows, or the column, out"
            ));
        }
        let mut inputs = TemplateInputs::take(&mut map)?;
        if kind == RowKind::Instruction || is_share_gpt(&map, tags) {
            inputs.wrap_tools();
        }
        let row = match kind {
            RowKind::Messages => conversation(&mut map, tags),
            RowKind::Preference => preference(&mut map, tags),
            RowKind::Unpaired => unpaired(&mut map, tags),
            RowKind::PromptCompletion => prompt_completion(&mut map, tags),
            RowKind::Instruction => instruction(&mut map, tags),
            RowKind::Text => Ok(Row::Text(text(&mut map, "text", Empty::Refused)?)),
        }?;
        if !row.is_rendered() {
            unused.extend(inputs.names().map(str::to_owned));
            inputs = TemplateInputs::default();
        }
        unused.extend(map.into_iter().filter(|(_, value)| !is_nothing(value)).map(|(name, _)| name));
        Ok(Reading { row, inputs, unused })
    }
}

/// Whether a column holds something.
pub(super) fn filled(map: &Map<String, Value>, key: &str) -> bool {
    map.get(key).is_some_and(|value| !is_nothing(value))
}

/// What a row's columns say it is. Columns of nulls count only where no other says anything: tables have them.
fn recognise(map: &Map<String, Value>) -> Result<RowKind, String> {
    let labelled = map.contains_key(LABEL);
    let kind = kind_by(&|key| map.get(key).is_some_and(|value| !value.is_null()), labelled);
    if let Some(kind) = kind.or_else(|| kind_by(&|key| map.contains_key(key), labelled)) {
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

fn kind_by(has: &dyn Fn(&str) -> bool, labelled: bool) -> Option<RowKind> {
    let converses = KEYS.into_iter().any(has);
    if has("chosen") || has("rejected") {
        return Some(RowKind::Preference);
    }
    // Whatever the label says: a bad answer must not be trained because its label was not understood.
    if labelled && (converses || has("completion") || has("output")) {
        return Some(RowKind::Unpaired);
    }
    if converses {
        return Some(RowKind::Messages);
    }
    let kinds = [
        ("prompt", RowKind::PromptCompletion),
        ("completion", RowKind::PromptCompletion),
        ("instruction", RowKind::Instruction),
        ("text", RowKind::Text),
    ];
    kinds.into_iter().find(|(key, _)| has(key)).map(|(_, kind)| kind)
}

fn instruction(map: &mut Map<String, Value>, tags: &Tags) -> Result<Row, String> {
    let lead = take_lead(map, tags)?;
    let input = if map.contains_key("input") { text(map, "input", Empty::Allowed)? } else { String::new() };
    // One of the two says what to do.
    let empty = if input.trim().is_empty() { Empty::Refused } else { Empty::Allowed };
    let instruction = text(map, "instruction", empty)?;
    Ok(Row::Instruction { instruction, input, output: text(map, "output", Empty::Refused)?, lead })
}

fn prompt_completion(map: &mut Map<String, Value>, tags: &Tags) -> Result<Row, String> {
    let (prompt, completion) = (content(map, "prompt", tags)?, content(map, "completion", tags)?);
    let prompt = if has_lead(map) { turn(prompt, "user") } else { prompt };
    let (mut prompt, [completion]) = alike(prompt, [completion])?;
    if let Content::Messages(messages) = &mut prompt {
        with_lead(map, messages, tags)?;
    }
    Ok(Row::PromptCompletion { prompt, completion })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Empty {
    Allowed,
    Refused,
}

fn text(map: &mut Map<String, Value>, key: &str, empty: Empty) -> Result<String, String> {
    match map.shift_remove(key) {
        Some(Value::String(text)) if empty == Empty::Allowed || !text.trim().is_empty() => Ok(text),
        Some(Value::Null) if empty == Empty::Allowed => Ok(String::new()),
        Some(Value::String(_) | Value::Null) => Err(format!("`{key}` is empty")),
        Some(other) => Err(format!("`{key}` is {}; a text was expected", kind(&other))),
        None => Err(format!("`{key}` is missing")),
    }
}

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
