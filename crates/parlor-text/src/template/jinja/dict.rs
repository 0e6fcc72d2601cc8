//! Python's values where the engine has none of its own: dictionaries whose methods are also attributes, and
//! integers beyond 128 bits.

use std::fmt;
use std::sync::Arc;

use indexmap::IndexMap;
use minijinja::value::{Enumerator, Object, ObjectRepr, ValueKind};
use minijinja::{Error, State, Value};
use serde_json::{Map, Number, Value as Json};

use super::arguments::Arguments;
use super::method_of;

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
pub(super) fn dict(entries: impl IntoIterator<Item = (String, Value)>) -> Value {
    Value::from_object(Dict { entries: entries.into_iter().collect(), message: None })
}

/// Message `index` of a conversation.
pub(crate) fn message(index: usize, fields: &Map<String, Json>) -> Value {
    let entries = fields.iter().map(|(key, value)| (key.clone(), from_json(value))).collect();
    Value::from_object(Dict { entries, message: Some(index) })
}

/// Which message of the conversation a value is.
pub(super) fn message_index(value: &Value) -> Option<usize> {
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

/// The integer of these decimal digits.
pub(super) fn integer(digits: &str) -> Value {
    if let Ok(small) = digits.parse::<i64>() {
        return Value::from(small);
    }
    if let Ok(large) = digits.parse::<i128>() {
        return Value::from(large);
    }
    let (sign, magnitude) = match digits.strip_prefix('-') {
        Some(magnitude) => ("-", magnitude),
        None => ("", digits),
    };
    Value::from_object(BigInteger(format!("{sign}{}", magnitude.trim_start_matches('0'))))
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
        method_of(&self.receiver, self.name, arguments)
            .unwrap_or_else(|| Err(super::invalid(format!("there is no method `{}`", self.name))))
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<built-in method {}>", self.name)
    }
}

/// Whether `value` is a method or function.
pub(super) fn is_callable(value: &Value) -> bool {
    value.kind() == ValueKind::Plain && !is_big(value)
}

/// An integer that no type of the engine holds, by its digits: it can be written, compared for equality and passed on.
#[derive(Debug, PartialEq, Eq)]
struct BigInteger(String);

impl Object for BigInteger {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn custom_cmp(self: &Arc<Self>, other: &minijinja::value::DynObject) -> Option<std::cmp::Ordering> {
        let other = other.downcast_ref::<Self>()?;
        let (a, b) = (self.0.trim_start_matches('-'), other.0.trim_start_matches('-'));
        let magnitude = (a.len(), a).cmp(&(b.len(), b));
        Some(match (self.0.starts_with('-'), other.0.starts_with('-')) {
            (false, false) => magnitude,
            (true, true) => magnitude.reverse(),
            (false, true) => std::cmp::Ordering::Greater,
            (true, false) => std::cmp::Ordering::Less,
        })
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_big(value: &Value) -> bool {
    value.downcast_object_ref::<BigInteger>().is_some()
}

/// Whether Python's type is `int` (or its subtype `bool`).
pub(super) fn is_integer(value: &Value) -> bool {
    is_big(value) || value.kind() == ValueKind::Bool || (value.is_number() && !is_float(value))
}

/// Whether Python's type is `float`.
pub(super) fn is_float(value: &Value) -> bool {
    value.kind() == ValueKind::Number && !value.is_integer()
}

/// Methods of numbers.
pub(super) fn of_number(value: &Value, method: &str, arguments: &[Value]) -> Option<Result<Value, Error>> {
    let number = f64::try_from(value.clone()).ok()?;
    let result = match method {
        "is_integer" => Value::from(number.fract() == 0.0),
        "bit_length" if value.is_integer() => {
            let magnitude = i128::try_from(value.clone()).ok()?.unsigned_abs();
            Value::from(u128::BITS - magnitude.leading_zeros())
        }
        _ => return None,
    };
    Some(Arguments::new(arguments).and_then(Arguments::none).map(|()| result))
}
