//! A chat message: role, content, and further fields for the chat template, kept as they are.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::json_value::{is_nothing, kind};

/// One message, OpenAI's and HF's shape: `role`, `content` (text, parts, or null beside `tool_calls`), and any
/// further fields (`name`, `tool_calls`, `tool_call_id`, `reasoning_content`, ...).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Message(Map<String, Value>);

/// Fields of the model's reasoning.
const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

/// The type of a field that tells whether a message is trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flag {
    Bool,
    Weight,
}

const MASKED: &str = "masked";
const FLAGS: &[(&str, Flag)] = &[
    ("weight", Flag::Weight),
    ("train", Flag::Bool),
    ("training", Flag::Bool),
    ("loss", Flag::Bool),
    (MASKED, Flag::Bool),
];

impl Message {
    /// A message of plain text.
    pub fn new(role: &str, content: &str) -> Self {
        let mut map = Map::new();
        map.insert("role".to_owned(), role.into());
        map.insert("content".to_owned(), content.into());
        Self(map)
    }

    /// Checks a message of a row. The arguments of its `tool_calls` are not parsed, because
    /// `apply_chat_template` passes them to templates as they are.
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence that names the message.
    pub fn from_value(value: Value) -> Result<Self, String> {
        let Value::Object(map) = value else {
            return Err(format!("is {}, but an object with `role` and `content` was expected", kind(&value)));
        };
        match map.get("role") {
            Some(Value::String(role)) if !role.is_empty() => {}
            Some(other) => return Err(format!("has {} as `role`; a text was expected", kind(other))),
            None => return Err("has no `role`".to_owned()),
        }
        match map.get("content") {
            Some(Value::String(_) | Value::Array(_)) => {}
            Some(Value::Null) | None if calls_tools(&map) => {}
            Some(other) => return Err(format!("has {} as `content`; a text was expected", kind(other))),
            None => return Err("has no `content`".to_owned()),
        }
        match map.get("tool_calls") {
            None | Some(Value::Null | Value::Array(_)) => Ok(Self(map)),
            Some(other) => Err(format!("has {} as `tool_calls`; a list was expected", kind(other))),
        }
    }

    /// `system`, `user`, `assistant`, `tool`, ...
    pub fn role(&self) -> &str {
        self.0.get("role").and_then(Value::as_str).unwrap_or_default()
    }

    /// The message as templates see it, as `apply_chat_template` prepares it (transformers 5.23): without
    /// keys whose value is null, and with reasoning under any of its three names copied to the usual ones.
    pub(crate) fn for_template(&self) -> Map<String, Value> {
        let mut map = self.0.clone();
        map.retain(|_, value| !value.is_null());
        let reasoning = REASONING.iter().find_map(|name| map.get(*name).cloned());
        if let Some(reasoning) = reasoning {
            map.entry("thinking").or_insert_with(|| reasoning.clone());
            map.insert("reasoning_content".to_owned(), reasoning);
        }
        map
    }

    /// Whether it has no text, no reasoning and no tool calls.
    pub(crate) fn is_empty(&self) -> bool {
        let nothing = |key: &str| match self.0.get(key) {
            Some(Value::String(text)) => text.trim().is_empty(),
            Some(Value::Array(parts)) => parts.is_empty(),
            _ => true,
        };
        nothing("content") && REASONING.iter().all(|name| nothing(name)) && !calls_tools(&self.0)
    }

    /// Its tool calls, if it has any.
    pub(crate) fn tool_calls(&self) -> Option<&Vec<Value>> {
        self.0.get("tool_calls").and_then(Value::as_array).filter(|calls| !calls.is_empty())
    }

    /// Whether the assistant's part of it is trained: not with `weight: 0` (OpenAI, Mistral), `train: false`
    /// or `training: false` (ShareGPT, Axolotl), `loss: false` (ms-swift), or `masked: true` (torchtune).
    pub fn is_trained(&self) -> bool {
        FLAGS.iter().all(|(name, _)| match self.0.get(*name) {
            Some(Value::Bool(flag)) => *flag != (*name == MASKED),
            Some(Value::Number(weight)) => weight.as_f64() != Some(0.0),
            _ => true,
        })
    }

    /// The same message without such fields, so that it is trained.
    pub(crate) fn trained(&self) -> Self {
        let mut map = self.0.clone();
        map.retain(|name, _| !FLAGS.iter().any(|(flag, _)| flag == name));
        Self(map)
    }

    /// Checks the fields that tell whether it is trained.
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence that names the message.
    pub(crate) fn check_flags(&self) -> Result<(), String> {
        for (name, expected) in FLAGS {
            let fits = match self.0.get(*name) {
                None | Some(Value::Null) => true,
                Some(Value::Bool(_)) => expected == &Flag::Bool,
                Some(Value::Number(weight)) => {
                    expected == &Flag::Weight && [Some(0.0), Some(1.0)].contains(&weight.as_f64())
                }
                Some(_) => false,
            };
            if !fits {
                let value = self.0.get(*name).map(Value::to_string).unwrap_or_default();
                let expected = match expected {
                    Flag::Bool => "true or false",
                    Flag::Weight => "0 or 1",
                };
                return Err(format!("has `{name}: {value}`; {expected} was expected"));
            }
        }
        let asks = |name: &&&str| self.0.get(**name) == Some(&Value::Bool(true));
        if self.role() != "assistant"
            && let Some(name) = ["train", "training", "loss"].iter().find(asks)
        {
            let role = self.role();
            return Err(format!("has `{name}: true`, but a message of `{role}` is never trained on its own"));
        }
        let detail = |name: &&&str| self.0.get(**name).is_some_and(|ranges| !is_nothing(ranges));
        match ["train_detail", "training_detail"].iter().find(detail) {
            Some(name) => {
                Err(format!("has `{name}`; parts of a message cannot be chosen, only whole messages"))
            }
            None => Ok(()),
        }
    }

    /// Its fields.
    pub(crate) fn fields(&self) -> &Map<String, Value> {
        &self.0
    }

    /// The content, if it is plain text.
    pub fn text(&self) -> Option<&str> {
        self.0.get("content").and_then(Value::as_str)
    }
}

fn calls_tools(message: &Map<String, Value>) -> bool {
    message.get("tool_calls").is_some_and(|calls| !calls.is_null())
}
