//! The template variables of a row: `tools`, `documents` and `chat_template_kwargs`, as TRL's dataset formats and
//! `apply_chat_template` name them. Each may be JSON or a text that holds JSON.

use serde_json::{Map, Value, json};

use super::column_names::{DOCUMENTS, TEMPLATE_KWARGS, TOOLS};
use crate::json_value::{is_nothing, kind};
use crate::template::RenderOptions;

/// Template variables of one row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TemplateInputs {
    /// JSON Schemas of the tools that may be called; never an empty list.
    pub tools: Option<Vec<Value>>,
    /// Documents to answer from; never an empty list.
    pub documents: Option<Vec<Value>>,
    /// Further variables (`enable_thinking`, ...); they override those of the run.
    pub chat_template_kwargs: Map<String, Value>,
}

/// Arguments of `apply_chat_template` that are not template variables, or that the program sets itself.
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

    /// The columns of those that are set.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        let filled = [
            (TOOLS, self.tools.is_some()),
            (DOCUMENTS, self.documents.is_some()),
            (TEMPLATE_KWARGS, !self.chat_template_kwargs.is_empty()),
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
            row.insert(TEMPLATE_KWARGS.to_owned(), Value::Object(self.chat_template_kwargs.clone()));
        }
    }

    /// Wraps bare tool schemas as OpenAI's `{"type": "function", "function": ...}`, as LLaMA-Factory does for
    /// ShareGPT's and Alpaca's layouts. (For rows of messages TRL passes the tools on as they are.)
    pub(super) fn wrap_tools(&mut self) {
        for tool in self.tools.iter_mut().flatten() {
            if tool.get("function").is_none() && tool.get("name").is_some_and(Value::is_string) {
                *tool = json!({ "type": "function", "function": tool.take() });
            }
        }
    }

    /// Takes them out of a row.
    pub(super) fn extract(row: &mut Map<String, Value>) -> Result<Self, String> {
        let mut tools = list(row.shift_remove(TOOLS), TOOLS)?;
        let mut documents = list(row.shift_remove(DOCUMENTS), DOCUMENTS)?;
        let mut kwargs = match row
            .shift_remove(TEMPLATE_KWARGS)
            .map(|value| parsed(value, TEMPLATE_KWARGS, "object"))
            .transpose()?
        {
            None => Map::new(),
            Some(value) if is_nothing(&value) => Map::new(),
            Some(Value::Object(map)) => map,
            Some(other) => {
                return Err(format!("`{TEMPLATE_KWARGS}` is {}; an object was expected", kind(&other)));
            }
        };
        if let Some(name) = NOT_VARIABLES.iter().find(|name| kwargs.contains_key(**name)) {
            return Err(format!("`{TEMPLATE_KWARGS}` sets `{name}`, which is no variable of a row"));
        }
        // As in TRL, they override the columns.
        if let Some(value) = kwargs.shift_remove(TOOLS) {
            tools = list(Some(value), TOOLS)?;
        }
        if let Some(value) = kwargs.shift_remove(DOCUMENTS) {
            documents = list(Some(value), DOCUMENTS)?;
        }
        Ok(Self { tools, documents, chat_template_kwargs: kwargs })
    }
}

/// A value, parsed when it is a text that holds JSON.
fn parsed(value: Value, name: &str, expected: &str) -> Result<Value, String> {
    match value {
        Value::String(text) if text.trim().is_empty() => Ok(Value::Null),
        Value::String(text) => serde_json::from_str(&text)
            .map_err(|cause| format!("`{name}` is a text that is not a JSON {expected}: {cause}")),
        other => Ok(other),
    }
}

/// A list of objects, each as it is or as a text that holds JSON. None when it is empty.
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
