//! What Python's `iter` gives for a value, and the entries of dictionaries.

use minijinja::value::{Tuple, ValueKind};
use minijinja::{Error, Value};

use super::error::invalid;

/// The items of a value: of a text its characters, of a dictionary its keys.
pub(crate) fn items(value: &Value) -> Result<Vec<Value>, Error> {
    match value.kind() {
        ValueKind::Undefined => Ok(Vec::new()),
        ValueKind::None | ValueKind::Bool | ValueKind::Number | ValueKind::Plain => {
            Err(invalid(format!("a value of type {} cannot be iterated over", value.kind())))
        }
        _ => Ok(value.try_iter()?.collect()),
    }
}

/// Keys and values of a dictionary.
pub(crate) fn entries(dict: &Value) -> Result<Vec<(Value, Value)>, Error> {
    dict.try_iter()?.map(|key| Ok((key.clone(), dict.get_item(&key)?))).collect()
}

/// Keys and values as a list of tuples.
pub(crate) fn pairs(entries: Vec<(Value, Value)>) -> Value {
    let pair = |(key, value)| Value::from(Tuple::from(vec![key, value]));
    Value::from(entries.into_iter().map(pair).collect::<Vec<_>>())
}
