//! Converts rows between kinds, in the layouts that TRL, LLaMA-Factory and Parlor read.
//!
//! Only lossless conversions are made: a text has no turns, a label alone has no other completion, and a row
//! with tools, template variables or earlier turns is not written in a layout without a column for them.

use serde_json::{Map, Value, json};

use super::intake::SourcedRow;
use super::rows::{Content, HISTORY, Row, SYSTEM, TemplateInputs};
use crate::message::Message;

/// Layouts of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConvertTo {
    /// The row's own, with canonical names.
    Same,
    /// `messages`.
    Messages,
    /// ShareGPT's `conversations`.
    Conversations,
    /// `instruction`, `input`, `output`.
    Instruction,
    /// `prompt`, `completion`.
    PromptCompletion,
    /// `prompt`, `chosen`, `rejected`.
    Preference,
    /// `prompt`, `completion`, `label`: a pair becomes two rows.
    Unpaired,
    /// `text`.
    Text,
}

/// The row as one or more rows in another layout.
///
/// # Errors
/// Why it cannot be converted, as the end of a sentence that names the row.
pub fn convert(sourced: &SourcedRow, to: ConvertTo) -> Result<Vec<Value>, String> {
    let SourcedRow { row, inputs, .. } = sourced;
    let one = |value: Value| Ok(vec![with(inputs, value)]);
    let impossible = || Err(format!("a row of kind `{}` cannot become {}", row.kind(), name(to)));
    match to {
        ConvertTo::Same => one(same(row)),
        ConvertTo::Messages => match conversation(row) {
            Some(messages) => one(json!({ "messages": messages })),
            None => impossible(),
        },
        ConvertTo::Conversations => match conversation(row) {
            Some(messages) => {
                let turns: Vec<Value> = messages.iter().map(share_gpt).collect::<Result<_, _>>()?;
                one(json!({ "conversations": turns }))
            }
            None => impossible(),
        },
        ConvertTo::Instruction => match row {
            Row::Instruction { .. } => one(same(row)),
            Row::PromptCompletion { prompt: Content::Text(prompt), completion: Content::Text(answer) } => {
                one(json!({ "instruction": prompt, "input": "", "output": answer }))
            }
            _ => match conversation(row) {
                Some(messages) => one(as_instruction(messages)?),
                None => impossible(),
            },
        },
        ConvertTo::PromptCompletion => match row {
            Row::PromptCompletion { .. } => one(same(row)),
            Row::Preference { prompt, chosen, .. } => {
                one(json!({ "prompt": value(prompt), "completion": value(chosen) }))
            }
            _ => match conversation(row) {
                Some(messages) => match messages.split_last() {
                    Some((answer, prompt)) if answer.role() == "assistant" && !prompt.is_empty() => {
                        one(json!({ "prompt": prompt, "completion": [answer] }))
                    }
                    _ => Err("the conversation does not end with an answer of the assistant".to_owned()),
                },
                None => impossible(),
            },
        },
        ConvertTo::Preference => match row {
            Row::Preference { .. } => one(same(row)),
            _ => impossible(),
        },
        ConvertTo::Unpaired => match row {
            Row::Unpaired { .. } => one(same(row)),
            Row::Preference { prompt, chosen, rejected } => {
                let row = |answer, label| {
                    let row = json!({ "prompt": value(prompt), "completion": value(answer), "label": label });
                    with(inputs, row)
                };
                Ok(vec![row(chosen, true), row(rejected, false)])
            }
            _ => impossible(),
        },
        ConvertTo::Text => match row {
            Row::Text(_) => one(same(row)),
            Row::PromptCompletion { prompt: Content::Text(prompt), completion: Content::Text(rest) } => {
                one(json!({ "text": format!("{prompt}{rest}") }))
            }
            _ => impossible(),
        },
    }
}

fn name(to: ConvertTo) -> &'static str {
    match to {
        ConvertTo::Same => "itself",
        ConvertTo::Messages => "`messages`",
        ConvertTo::Conversations => "`conversations`",
        ConvertTo::Instruction => "`instruction`",
        ConvertTo::PromptCompletion => "`prompt_completion`",
        ConvertTo::Preference => "`preference`",
        ConvertTo::Unpaired => "`unpaired`",
        ConvertTo::Text => "`text`",
    }
}

fn value(content: &Content) -> Value {
    match content {
        Content::Text(text) => text.clone().into(),
        Content::Messages(messages) => json!(messages),
    }
}

fn with(inputs: &TemplateInputs, mut row: Value) -> Value {
    if let Value::Object(map) = &mut row {
        inputs.write(map);
    }
    row
}

fn same(row: &Row) -> Value {
    match row {
        Row::Messages { messages } => json!({ "messages": messages }),
        Row::Instruction { instruction, input, output, lead } => {
            let mut row = json!({ "instruction": instruction, "input": input, "output": output });
            put_lead(&mut row, lead);
            row
        }
        Row::PromptCompletion { prompt, completion } => {
            json!({ "prompt": value(prompt), "completion": value(completion) })
        }
        Row::Text(text) => json!({ "text": text }),
        Row::Preference { prompt, chosen, rejected } => {
            json!({ "prompt": value(prompt), "chosen": value(chosen), "rejected": value(rejected) })
        }
        Row::Unpaired { prompt, completion, desirable } => {
            json!({ "prompt": value(prompt), "completion": value(completion), "label": desirable })
        }
    }
}

/// Writes the messages before an instruction as `system` and `history`.
fn put_lead(row: &mut Value, lead: &[Message]) {
    let (system, turns) = match lead.split_first() {
        Some((first, turns)) if is_plain(first, "system") => (first.text(), turns),
        _ => (None, lead),
    };
    if let Some(system) = system {
        row[SYSTEM] = system.into();
    }
    let pair = |turns: &[Message]| match turns {
        [request, answer] if is_plain(request, "user") && is_plain(answer, "assistant") => {
            Some(json!([request.text(), answer.text()]))
        }
        _ => None,
    };
    let pairs: Option<Vec<Value>> = turns.chunks(2).map(pair).collect();
    if !turns.is_empty() {
        row[HISTORY] = pairs.map_or_else(|| json!(turns), Value::Array);
    }
}

/// Whether a message has this role, a text, and no further field.
fn is_plain(message: &Message, role: &str) -> bool {
    message.role() == role && message.text().is_some() && message.fields().len() == 2
}

/// A conversation that ends with a request and its answer, as an instruction.
fn as_instruction(messages: Vec<Message>) -> Result<Value, String> {
    match &messages[..] {
        [lead @ .., request, answer] if is_plain(request, "user") && is_plain(answer, "assistant") => {
            let mut row = json!({ "instruction": request.text(), "input": "", "output": answer.text() });
            put_lead(&mut row, lead);
            Ok(row)
        }
        _ => Err(
            "only a conversation that ends with a request and its answer, both plain text, can become an \
                  instruction"
                .to_owned(),
        ),
    }
}

/// The row as a conversation: text prompts are the user's, text answers the assistant's. None when it is not one.
fn conversation(row: &Row) -> Option<Vec<Message>> {
    let texts = |prompt: &Content, answer: &Content| match (prompt, answer) {
        (Content::Text(prompt), Content::Text(answer)) => {
            Some(vec![Message::new("user", prompt), Message::new("assistant", answer)])
        }
        _ => row.conversation(),
    };
    match row {
        Row::Messages { .. } | Row::Instruction { .. } => row.conversation(),
        Row::PromptCompletion { prompt, completion: answer }
        | Row::Preference { prompt, chosen: answer, .. } => texts(prompt, answer),
        Row::Text(_) | Row::Unpaired { .. } => None,
    }
}

fn share_gpt(message: &Message) -> Result<Value, String> {
    let from = match message.role() {
        "user" => "human",
        "assistant" => "gpt",
        "tool" => "observation",
        other => other,
    };
    let mut turn = Map::new();
    match (message.text(), message.tool_calls()) {
        (text, Some(calls)) if text.is_none_or(str::is_empty) => {
            let calls: Vec<Value> = calls.iter().map(function).collect::<Result<_, _>>()?;
            turn.insert("from".to_owned(), "function_call".into());
            turn.insert("value".to_owned(), json!(calls).to_string().into());
        }
        (Some(text), None) => {
            turn.insert("from".to_owned(), from.into());
            turn.insert("value".to_owned(), text.into());
        }
        _ => {
            return Err("a message that is not plain text cannot become a turn of `conversations`".to_owned());
        }
    }
    let written = ["role", "content", "tool_calls"];
    for (name, field) in message.fields() {
        if !written.contains(&name.as_str()) && !field.is_null() {
            turn.insert(name.clone(), field.clone());
        }
    }
    Ok(Value::Object(turn))
}

/// A tool call in ShareGPT's layout: the function, with the call's id.
fn function(call: &Value) -> Result<Value, String> {
    let Some(Value::Object(function)) = call.get("function") else { return Ok(call.clone()) };
    let mut function = function.clone();
    for (name, field) in call.as_object().into_iter().flatten() {
        match name.as_str() {
            "function" | "type" => {}
            "id" => _ = function.insert(name.clone(), field.clone()),
            _ => return Err(format!("a tool call with `{name}` cannot become a turn of `conversations`")),
        }
    }
    Ok(Value::Object(function))
}
