//! Python's `int` and `float`: integers beyond 128 bits, and which of the two a value is.

use std::fmt;
use std::sync::Arc;

use minijinja::Value;
use minijinja::value::{Object, ObjectRepr, ValueKind};

/// The integer of these decimal digits.
pub(crate) fn integer(digits: &str) -> Value {
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

/// An integer beyond the engine's types, as digits. It can be written, compared and passed on.
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

/// Whether a value is an integer beyond 128 bits.
pub(crate) fn is_big(value: &Value) -> bool {
    value.downcast_object_ref::<BigInteger>().is_some()
}

/// Whether Python's type is `int` (or its subtype `bool`).
pub(crate) fn is_integer(value: &Value) -> bool {
    is_big(value) || value.kind() == ValueKind::Bool || (value.is_number() && !is_float(value))
}

/// Whether Python's type is `float`.
pub(crate) fn is_float(value: &Value) -> bool {
    value.kind() == ValueKind::Number && !value.is_integer()
}
