//! Python's `<` and `in`.

use std::cmp::Ordering;

use minijinja::value::ValueKind;
use minijinja::{Error, Value};

use super::error::invalid;
use super::iterate::items;
use super::numbers::is_integer;

/// Whether arithmetic takes a value: booleans are numbers in Python.
pub(crate) fn is_number(value: &Value) -> bool {
    value.is_number() || is_integer(value)
}

/// The error of an operator between values that it is not defined for.
pub(crate) fn unsupported(operator: &str, left: &Value, right: &Value) -> Error {
    invalid(format!("`{operator}` is not defined between {} and {}", left.kind(), right.kind()))
}

/// Python's order; none where neither is smaller (NaN).
pub(crate) fn compare(left: &Value, right: &Value) -> Result<Option<Ordering>, Error> {
    if let (Some(a), Some(b)) = (left.as_str(), right.as_str()) {
        return Ok(Some(a.cmp(b)));
    }
    if is_number(left) && is_number(right) {
        if let (Ok(a), Ok(b)) = (i128::try_from(left.clone()), i128::try_from(right.clone()))
            && is_integer(left)
            && is_integer(right)
        {
            return Ok(Some(a.cmp(&b)));
        }
        if let (Ok(a), Ok(b)) = (f64::try_from(left.clone()), f64::try_from(right.clone())) {
            return Ok(a.partial_cmp(&b));
        }
        return Ok(Some(left.cmp(right)));
    }
    if left.kind() == ValueKind::Seq && right.kind() == ValueKind::Seq && left.is_tuple() == right.is_tuple()
    {
        let (a, b) = (items(left)?, items(right)?);
        for (a, b) in a.iter().zip(&b) {
            if a != b {
                return compare(a, b);
            }
        }
        return Ok(Some(a.len().cmp(&b.len())));
    }
    Err(unsupported("<", left, right))
}

/// `value in container`.
pub(crate) fn contains(container: &Value, value: &Value) -> Result<bool, Error> {
    match (container.as_str(), value.as_str()) {
        (Some(container), Some(value)) => return Ok(container.contains(value)),
        (Some(_), None) => {
            return Err(invalid(format!("`in <string>` requires a string, not {}", value.kind())));
        }
        _ => {}
    }
    match container.kind() {
        ValueKind::Undefined => Ok(false),
        ValueKind::Map => Ok(!container.get_item(value)?.is_undefined()),
        _ => Ok(items(container)?.contains(value)),
    }
}
