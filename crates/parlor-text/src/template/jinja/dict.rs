//! Python's `dict`, whose methods are also attributes, and JSON as Python's values.

use std::fmt;
use std::sync::Arc;

use indexmap::IndexMap;
use minijinja::value::{Enumerator, Object, ObjectRepr, ValueKind};
use minijinja::{Error, State, Value};
use serde_json::{Map, Number, Value as Json};

use super::methods::containers;
use super::values::error::invalid;
use super::values::numbers::{integer, is_big};

/// Methods of `dict` that the sandbox of `transformers` lets templates see.
const DICT_METHODS: [&str; 5] = ["copy", "get", "items", "keys", "values"];

/// A JSON value as `json.loads` reads it.
pub(crate) fn from_json(json: &Json) -> Value {
    match json {
        Json::Null => Value::from(()),
        Json::Bool(value) => Value::from(*value),
        Json::Number(number) => from_number(number),
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(items) => Value::from(items.iter().map(from_json).collect::<Vec<_>>()),
        Json::Object(map) => dict(map.iter().map(|(key, value)| (key.clone(), from_json(value)))),
    }
}

/// A dictionary with texts as keys.
pub(crate) fn dict(entries: impl IntoIterator<Item = (String, Value)>) -> Value {
    Value::from_object(Dict { entries: entries.into_iter().collect(), message: None })
}

/// Message `index` of a conversation.
pub(crate) fn message(index: usize, fields: &Map<String, Json>) -> Value {
    let entries = fields.iter().map(|(key, value)| (key.clone(), from_json(value))).collect();
    Value::from_object(Dict { entries, message: Some(index) })
}

/// Which message of the conversation a value is.
pub(crate) fn message_index(value: &Value) -> Option<usize> {
    value.downcast_object_ref::<Dict>()?.message
}

/// A number by its digits: a point or an exponent makes it a float.
fn from_number(number: &Number) -> Value {
    let digits = number.to_string();
    if digits.contains(['.', 'e', 'E']) {
        return Value::from(digits.parse::<f64>().unwrap_or(f64::NAN));
    }
    integer(&digits)
}

/// A dictionary. An attribute of it is a method first, as in Python; a subscript is an item.
#[derive(Debug)]
struct Dict {
    entries: IndexMap<String, Value>,
    /// The number of the message that it is, if it is one.
    message: Option<usize>,
}

impl Object for Dict {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Map
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.entries.get(key.as_str()?).cloned()
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        match DICT_METHODS.into_iter().find(|method| *method == key) {
            Some(name) => {
                let receiver = Value::from_dyn_object(Arc::clone(self));
                Some(Value::from_object(BoundMethod { receiver, name }))
            }
            None => self.entries.get(key).cloned(),
        }
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.entries.keys().map(|key| Value::from(key.as_str())).collect())
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        Some(self.entries.len())
    }
}

/// A method that is not called yet: true, defined, and callable.
#[derive(Debug)]
struct BoundMethod {
    receiver: Value,
    name: &'static str,
}

impl Object for BoundMethod {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call(self: &Arc<Self>, _: &mut State<'_, '_>, arguments: &[Value]) -> Result<Value, Error> {
        containers::of_dict(&self.receiver, self.name, arguments)
            .unwrap_or_else(|| Err(invalid(format!("there is no method `{}`", self.name))))
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<built-in method {}>", self.name)
    }
}

/// Whether `value` is a method or function.
pub(crate) fn is_callable(value: &Value) -> bool {
    value.kind() == ValueKind::Plain && !is_big(value)
}
