//! Operators with Python's meaning, as the functions and filters that rewritten templates call.

use std::cmp::Ordering;

use minijinja::value::ValueKind;
use minijinja::{Environment, Error, State, Value};

use crate::template::jinja::values::compare::{compare, contains, is_number, unsupported};
use crate::template::jinja::values::error::invalid;
use crate::template::jinja::values::format::percent;
use crate::template::jinja::values::iterate::items;
use crate::template::jinja::values::numbers::is_integer;
use crate::template::jinja::values::spelling;

pub(crate) const MODULO: &str = "operator__mod";
pub(crate) const CONCAT: &str = "operator__concat";
pub(crate) const LESS: &str = "operator__lt";
pub(crate) const LESS_EQUAL: &str = "operator__le";
pub(crate) const GREATER_EQUAL: &str = "operator__ge";
pub(crate) const GREATER: &str = "operator__gt";
pub(crate) const CONTAINED: &str = "operator__in";
/// A filter: the items of a loop.
pub(crate) const ITERABLE: &str = "operator__iter";
/// A filter: the value that is sliced.
pub(crate) const CHECKED_SLICE: &str = "operator__slice";

pub(crate) fn add(environment: &mut Environment<'static>) {
    environment.add_function(MODULO, modulo);
    environment.add_function(CONCAT, |left: &Value, right: &Value| {
        Ok::<_, Error>(spelling::text(left)? + &spelling::text(right)?)
    });
    let comparison = |predicate: fn(Ordering) -> bool| {
        move |left: &Value, right: &Value| compare(left, right).map(|found| found.is_some_and(predicate))
    };
    environment.add_function(LESS, comparison(Ordering::is_lt));
    environment.add_function(LESS_EQUAL, comparison(Ordering::is_le));
    environment.add_function(GREATER_EQUAL, comparison(Ordering::is_ge));
    environment.add_function(GREATER, comparison(Ordering::is_gt));
    environment.add_function(CONTAINED, |value: &Value, container: &Value| contains(container, value));
    environment.add_filter(ITERABLE, |value: Value| match value.kind() {
        // The engine iterates over bytes of a text.
        ValueKind::String => items(&value).map(Value::from),
        ValueKind::None | ValueKind::Bool | ValueKind::Number => {
            Err(invalid(format!("a value of type {} cannot be iterated over", value.kind())))
        }
        _ => Ok(value),
    });
    environment.add_filter(CHECKED_SLICE, |value: Value| match value.kind() {
        ValueKind::Undefined => Err(Error::from(minijinja::ErrorKind::UndefinedError)),
        ValueKind::None | ValueKind::Bool | ValueKind::Number | ValueKind::Map => {
            Err(invalid(format!("a value of type {} cannot be sliced", value.kind())))
        }
        _ => Ok(value),
    });
}

/// `left % right`: of a text, `printf`'s formatting.
fn modulo(_: &State<'_, '_>, left: Value, right: Value) -> Result<Value, Error> {
    if let Some(format) = left.as_str() {
        return percent(format, &right);
    }
    if !(is_number(&left) && is_number(&right)) {
        return Err(unsupported("%", &left, &right));
    }
    let number = |value: &Value| f64::try_from(value.clone()).unwrap_or(f64::NAN);
    if is_integer(&left) && is_integer(&right) {
        let (Ok(a), Ok(b)) = (i128::try_from(left), i128::try_from(right)) else {
            return Err(invalid("the integers are too large to be divided"));
        };
        return match a.checked_rem(b) {
            None => Err(invalid("integer modulo by zero")),
            Some(rest) if rest != 0 && (rest < 0) != (b < 0) => Ok(Value::from(rest + b)),
            Some(rest) => Ok(Value::from(rest)),
        };
    }
    let (a, b) = (number(&left), number(&right));
    if b == 0.0 {
        return Err(invalid("float modulo by zero"));
    }
    let rest = a % b;
    Ok(Value::from(if rest != 0.0 && (rest < 0.0) != (b < 0.0) { rest + b } else { rest }))
}
