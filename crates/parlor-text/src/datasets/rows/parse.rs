//! Objects to rows: recognises the kind of a row by its columns, and checks it.

use serde_json::{Map, Value};

use super::column_names::{CONVERSATION, KTO_TAG, LABEL, MEDIA, filled};
use super::columns::Tags;
use super::content::{content, same_kind, turn};
use super::conversation::{is_share_gpt, take_messages, with_lead};
use super::lead::{has_lead, take_lead};
use super::options::ReadOptions;
use super::preference::{preference, unpaired};
use super::row::{Content, Row, RowKind};
use super::template_inputs::TemplateInputs;
use crate::json_value::{is_nothing, kind};

/// A row, and the columns that are not used.
pub(crate) struct ParsedRow {
    pub(crate) row: Row,
    pub(crate) inputs: TemplateInputs,
    /// Columns that are not empty and not used.
    pub(crate) unused: Vec<String>,
}

/// Parses and checks a row.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn parse(value: Value, options: &ReadOptions) -> Result<ParsedRow, String> {
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
    let mut inputs = TemplateInputs::extract(&mut map)?;
    if kind == RowKind::Instruction || is_share_gpt(&map, tags) {
        inputs.wrap_tools();
    }
    let row = match kind {
        RowKind::Messages => take_messages(&mut map, tags).map(|messages| Row::Messages { messages }),
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
    Ok(ParsedRow { row, inputs, unused })
}

/// The kind of a row by its columns. Columns of nulls, which tables have, count only when no other column
/// decides.
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
    let is_conversational = CONVERSATION.into_iter().any(has);
    if has("chosen") || has("rejected") {
        return Some(RowKind::Preference);
    }
    // Whatever the label is: a rejected completion must not be trained because its label was not understood.
    if labelled && (is_conversational || has("completion") || has("output")) {
        return Some(RowKind::Unpaired);
    }
    if is_conversational {
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
    // One of the two must not be empty.
    let empty = if input.trim().is_empty() { Empty::Refused } else { Empty::Allowed };
    let instruction = text(map, "instruction", empty)?;
    Ok(Row::Instruction { instruction, input, output: text(map, "output", Empty::Refused)?, lead })
}

fn prompt_completion(map: &mut Map<String, Value>, tags: &Tags) -> Result<Row, String> {
    let (prompt, completion) = (content(map, "prompt", tags)?, content(map, "completion", tags)?);
    let prompt = if has_lead(map) { turn(prompt, "user") } else { prompt };
    let (mut prompt, [completion]) = same_kind(prompt, [completion])?;
    if let Content::Messages(messages) = &mut prompt {
        with_lead(map, messages, tags)?;
    }
    Ok(Row::PromptCompletion { prompt, completion })
}

/// Whether a text may be empty.
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
