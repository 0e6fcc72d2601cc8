//! Rows of one kind as rows of another, in the shapes that TRL, LLaMA-Factory and Parlor itself read.
//!
//! Only what loses nothing that counts is done: a text has no turns, and a verdict alone has no better answer.

use serde_json::{Map, Value, json};

use crate::chat::Message;
use crate::datasets::{Content, Row};

/// Shapes that rows are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConvertTo {
    /// Each its own, with canonical names.
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

/// The row as one or more rows of another shape.
///
/// # Errors
/// Why it cannot be, as the end of a sentence that names the row.
pub fn convert(row: &Row, to: ConvertTo) -> Result<Vec<Value>, String> {
    let one = |value: Value| Ok(vec![value]);
    let impossible = || Err(format!("a row of kind `{}` cannot become {}", row.kind(), name(to)));
    match to {
        ConvertTo::Same => one(same(row)),
        ConvertTo::Messages => match conversation(row) {
            Some((messages, tools)) => one(with_tools(json!({ "messages": messages }), tools)),
            None => impossible(),
        },
        ConvertTo::Conversations => match conversation(row) {
            Some((messages, tools)) => {
                let turns: Vec<Value> = messages.iter().map(share_gpt).collect::<Result<_, _>>()?;
                one(with_tools(json!({ "conversations": turns }), tools))
            }
            None => impossible(),
        },
        ConvertTo::Instruction => match row {
            Row::Instruction { .. } => one(same(row)),
            Row::PromptCompletion { prompt: Content::Text(prompt), completion: Content::Text(answer) } => {
                one(json!({ "instruction": prompt, "input": "", "output": answer }))
            }
            _ => match conversation(row) {
                Some((messages, None)) => match &messages[..] {
                    [asked, said] if asked.role() == "user" && said.role() == "assistant" => {
                        match (asked.text(), said.text()) {
                            (Some(asked), Some(said)) => {
                                one(json!({ "instruction": asked, "input": "", "output": said }))
                            }
                            _ => impossible(),
                        }
                    }
                    _ => Err("only one question with one answer can become an instruction".to_owned()),
                },
                _ => impossible(),
            },
        },
        ConvertTo::PromptCompletion => match row {
            Row::PromptCompletion { .. } => one(same(row)),
            Row::Preference { prompt, chosen, .. } => {
                one(json!({ "prompt": value(prompt), "completion": value(chosen) }))
            }
            _ => match conversation(row) {
                Some((messages, tools)) => match messages.split_last() {
                    Some((answer, prompt)) if answer.role() == "assistant" && !prompt.is_empty() => {
                        one(with_tools(json!({ "prompt": prompt, "completion": [answer] }), tools))
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
                let row = |answer, label| json!({ "prompt": value(prompt), "completion": value(answer), "label": label });
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

fn with_tools(mut row: Value, tools: Option<&Vec<Value>>) -> Value {
    if let Some(tools) = tools {
        row["tools"] = json!(tools);
    }
    row
}

fn same(row: &Row) -> Value {
    match row {
        Row::Messages { messages, tools } => with_tools(json!({ "messages": messages }), tools.as_ref()),
        Row::Instruction { instruction, input, output } => {
            json!({ "instruction": instruction, "input": input, "output": output })
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

/// The row as a conversation, with its tools; none when it is not one.
fn conversation(row: &Row) -> Option<(Vec<Message>, Option<&Vec<Value>>)> {
    let turns = |prompt: &Content, answer: &Content| match (prompt, answer) {
        (Content::Text(prompt), Content::Text(answer)) => {
            vec![Message::new("user", prompt), Message::new("assistant", answer)]
        }
        (prompt, answer) => {
            let messages = |content: &Content| match content {
                Content::Messages(messages) => messages.clone(),
                Content::Text(_) => Vec::new(),
            };
            [messages(prompt), messages(answer)].concat()
        }
    };
    match row {
        Row::Messages { messages, tools } => Some((messages.clone(), tools.as_ref())),
        Row::Instruction { instruction, input, output } => {
            let asked =
                if input.is_empty() { instruction.clone() } else { format!("{instruction}\n\n{input}") };
            Some((vec![Message::new("user", &asked), Message::new("assistant", output)], None))
        }
        Row::PromptCompletion { prompt, completion } => Some((turns(prompt, completion), None)),
        Row::Preference { prompt, chosen, .. } => Some((turns(prompt, chosen), None)),
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
            let call = |call: &Value| call.get("function").unwrap_or(call).clone();
            let calls: Vec<Value> = calls.iter().map(call).collect();
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
    Ok(Value::Object(turn))
}
