//! What a row hands to the chat template beside its messages: `tools`, `documents` and `chat_template_kwargs`, the names of
//! TRL's dataset formats and of `apply_chat_template`. Each may stand in its row as JSON in a text.

use serde_json::{Map, Value, json};

use crate::chat::{is_nothing, kind};
use crate::template::RenderOptions;

/// Template variables of one row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TemplateInputs {
    /// JSON Schemas of the tools that may be called; never an empty list.
    pub tools: Option<Vec<Value>>,
    /// Documents to answer from; never an empty list.
    pub documents: Option<Vec<Value>>,
    /// Further variables (`enable_thinking`, ...); they go over those of the run.
    pub chat_template_kwargs: Map<String, Value>,
}

pub(super) const TOOLS: &str = "tools";
pub(super) const DOCUMENTS: &str = "documents";
pub(super) const KWARGS: &str = "chat_template_kwargs";

/// Arguments of `apply_chat_template` that are no variables, or that the program sets itself.
const NOT_VARIABLES: &[&str] = &[
    "messages",
    "conversation",
    "chat_template",
    "add_generation_prompt",
    "continue_final_message",
    "tokenize",
    "return_dict",
    "return_assistant_tokens_mask",
];

impl TemplateInputs {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.tools.is_none() && self.documents.is_none() && self.chat_template_kwargs.is_empty()
    }

    /// Names of those that there are, as columns.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        let filled = [
            (TOOLS, self.tools.is_some()),
            (DOCUMENTS, self.documents.is_some()),
            (KWARGS, !self.chat_template_kwargs.is_empty()),
        ];
        filled.into_iter().filter(|(_, filled)| *filled).map(|(name, _)| name)
    }

    /// How a conversation with them is rendered.
    pub fn render_options(&self) -> RenderOptions {
        let mut kwargs = self.chat_template_kwargs.clone();
        if let Some(documents) = &self.documents {
            kwargs.insert(DOCUMENTS.to_owned(), Value::Array(documents.clone()));
        }
        RenderOptions { tools: self.tools.clone(), kwargs, ..RenderOptions::default() }
    }

    /// Writes them into a row.
    pub(crate) fn write(&self, row: &mut Map<String, Value>) {
        if let Some(tools) = &self.tools {
            row.insert(TOOLS.to_owned(), Value::Array(tools.clone()));
        }
        if let Some(documents) = &self.documents {
            row.insert(DOCUMENTS.to_owned(), Value::Array(documents.clone()));
        }
        if !self.chat_template_kwargs.is_empty() {
            row.insert(KWARGS.to_owned(), Value::Object(self.chat_template_kwargs.clone()));
        }
    }

    /// Gives tools that are described without a wrapper the one that OpenAI's have, as LLaMA-Factory does for ShareGPT's and
    /// Alpaca's layouts; TRL gives templates what a row of messages holds.
    pub(super) fn wrap_tools(&mut self) {
        for tool in self.tools.iter_mut().flatten() {
            if tool.get("function").is_none() && tool.get("name").is_some_and(Value::is_string) {
                *tool = json!({ "type": "function", "function": tool.take() });
            }
        }
    }

    /// Takes them out of a row.
    pub(super) fn take(row: &mut Map<String, Value>) -> Result<Self, String> {
        let mut tools = list(row.shift_remove(TOOLS), TOOLS)?;
        let mut documents = list(row.shift_remove(DOCUMENTS), DOCUMENTS)?;
        let mut kwargs =
            match row.shift_remove(KWARGS).map(|value| parsed(value, KWARGS, "object")).transpose()? {
                None => Map::new(),
                Some(value) if is_nothing(&value) => Map::new(),
                Some(Value::Object(map)) => map,
                Some(other) => return Err(format!("`{KWARGS}` is {}; an object was expected", kind(&other))),
            };
        if let Some(name) = NOT_VARIABLES.iter().find(|name| kwargs.contains_key(**name)) {
            return Err(format!("`{KWARGS}` sets `{name}`, which is no variable of a row"));
        }
        // As in TRL, they go over the columns.
        if let Some(value) = kwargs.shift_remove(TOOLS) {
            tools = list(Some(value), TOOLS)?;
        }
        if let Some(value) = kwargs.shift_remove(DOCUMENTS) {
            documents = list(Some(value), DOCUMENTS)?;
        }
        Ok(Self { tools, documents, chat_template_kwargs: kwargs })
    }
}

/// A value, or what it says as JSON in a text.
fn parsed(value: Value, name: &str, expected: &str) -> Result<Value, String> {
    match value {
        Value::String(text) if text.trim().is_empty() => Ok(Value::Null),
        Value::String(text) => serde_json::from_str(&text)
            .map_err(|cause| format!("`{name}` is a text that is not a JSON {expected}: {cause}")),
        other => Ok(other),
    }
}

/// A list of objects, each as it is or as JSON in a text; none when it is empty.
fn list(value: Option<Value>, name: &str) -> Result<Option<Vec<Value>>, String> {
    let items = match value.map(|value| parsed(value, name, "list")).transpose()? {
        None => return Ok(None),
        Some(value) if is_nothing(&value) => return Ok(None),
        Some(Value::Array(items)) => items,
        Some(other) => return Err(format!("`{name}` is {}; a list was expected", kind(&other))),
    };
    let item = |(index, item): (usize, Value)| match parsed(item, name, "object")? {
        item @ Value::Object(_) => Ok(item),
        other => Err(format!("`{name}[{index}]` is {}; an object was expected", kind(&other))),
    };
    items.into_iter().enumerate().map(item).collect::<Result<_, String>>().map(Some)
}
