//! A chat message: role, content, and whatever else a template may look at, kept as it came.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One message, OpenAI's and HF's shape: `role`, `content` (text, parts, or null beside `tool_calls`), and any
/// further fields (`name`, `tool_calls`, `tool_call_id`, `reasoning_content`, ...).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Message(Map<String, Value>);

/// Names under which messages carry what the model thought.
const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

impl Message {
    /// A message of plain text.
    pub fn new(role: &str, content: &str) -> Self {
        let mut map = Map::new();
        map.insert("role".to_owned(), role.into());
        map.insert("content".to_owned(), content.into());
        Self(map)
    }

    /// Checks a row's message. Arguments of its `tool_calls` that are JSON in a text, as OpenAI writes them, become
    /// what they say: that is what chat templates expect, and what vLLM gives them.
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence that names the message.
    pub fn from_value(value: Value) -> Result<Self, String> {
        let Value::Object(mut map) = value else {
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
        parse_arguments(&mut map)?;
        Ok(Self(map))
    }

    /// `system`, `user`, `assistant`, `tool`, ...
    pub fn role(&self) -> &str {
        self.0.get("role").and_then(Value::as_str).unwrap_or_default()
    }

    /// The message as templates see it, which is what `apply_chat_template` makes of one (transformers 5.23): keys
    /// whose value is null are absent, and reasoning under any of its three names stands under the usual ones.
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

    /// Whether it neither says, thinks nor calls anything.
    pub(crate) fn is_empty(&self) -> bool {
        let nothing = |key: &str| match self.0.get(key) {
            Some(Value::String(text)) => text.trim().is_empty(),
            Some(Value::Array(parts)) => parts.is_empty(),
            _ => true,
        };
        nothing("content") && REASONING.iter().all(|name| nothing(name)) && !calls_tools(&self.0)
    }

    /// The tools that it calls, when it does.
    pub(crate) fn tool_calls(&self) -> Option<&Vec<Value>> {
        self.0.get("tool_calls").and_then(Value::as_array).filter(|calls| !calls.is_empty())
    }

    /// Whether the assistant's part of it is trained: not where the row says `weight: 0` or `train: false`.
    pub fn is_trained(&self) -> bool {
        self.0.get("train") != Some(&Value::Bool(false))
            && self.0.get("weight").and_then(Value::as_f64) != Some(0.0)
    }

    /// The content when it is plain text.
    pub fn text(&self) -> Option<&str> {
        self.0.get("content").and_then(Value::as_str)
    }
}

fn calls_tools(message: &Map<String, Value>) -> bool {
    message.get("tool_calls").is_some_and(|calls| !calls.is_null())
}

fn parse_arguments(message: &mut Map<String, Value>) -> Result<(), String> {
    let calls = match message.get_mut("tool_calls") {
        None | Some(Value::Null) => return Ok(()),
        Some(Value::Array(calls)) => calls,
        Some(other) => return Err(format!("has {} as `tool_calls`; a list was expected", kind(other))),
    };
    for (index, call) in calls.iter_mut().enumerate() {
        // OpenAI's `function` holds the call; some write the call alone.
        let Some(arguments) = call.pointer("/function/arguments").or_else(|| call.get("arguments")) else {
            continue;
        };
        let Value::String(text) = arguments else { continue };
        let parsed = match text.trim() {
            "" => Value::Object(Map::new()),
            text => serde_json::from_str(text).map_err(|cause| {
                format!("calls a tool with arguments that are not JSON (`tool_calls[{index}]`): {cause}")
            })?,
        };
        let place =
            if call.pointer("/function/arguments").is_some() { "/function/arguments" } else { "/arguments" };
        if let Some(place) = call.pointer_mut(place) {
            *place = parsed;
        }
    }
    Ok(())
}

/// What a JSON value is, with its article.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
