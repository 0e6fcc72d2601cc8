//! The methods of Python's `list`, `tuple` and `dict` that do not change them; the sandbox refuses those that do.

use minijinja::{Error, Value};

use crate::template::jinja::values::arguments::{Arguments, optional_integer, required};
use crate::template::jinja::values::error::invalid;
use crate::template::jinja::values::iterate::{entries, items, pairs};

/// Methods that would change the value; `transformers` renders in an immutable sandbox.
const CHANGING: [&str; 14] = [
    "append",
    "clear",
    "extend",
    "insert",
    "pop",
    "popitem",
    "remove",
    "reverse",
    "setdefault",
    "sort",
    "update",
    "add",
    "discard",
    "__setitem__",
];

fn refused(method: &str) -> Option<Result<Value, Error>> {
    CHANGING
        .contains(&method)
        .then(|| Err(invalid(format!("`{method}` would change a value, which templates may not"))))
}

/// Calls a method of a dictionary; none when there is no such method.
pub(crate) fn of_dict(receiver: &Value, method: &str, arguments: &[Value]) -> Option<Result<Value, Error>> {
    Some(match method {
        "keys" => all(arguments).and_then(|()| items(receiver)).map(Value::from),
        "values" => all(arguments)
            .and_then(|()| entries(receiver))
            .map(|entries| Value::from(entries.into_iter().map(|(_, value)| value).collect::<Vec<_>>())),
        "items" => all(arguments).and_then(|()| entries(receiver)).map(pairs),
        "copy" => all(arguments).map(|()| receiver.clone()),
        "get" => get(receiver, arguments),
        other => return refused(other),
    })
}

fn all(arguments: &[Value]) -> Result<(), Error> {
    Arguments::new(arguments)?.none()
}

fn get(receiver: &Value, arguments: &[Value]) -> Result<Value, Error> {
    let [key, default] = Arguments::new(arguments)?.bind(["key", "default"])?;
    let value = receiver.get_item(&required(key, "key")?)?;
    Ok(if value.is_undefined() { default.unwrap_or_else(|| Value::from(())) } else { value })
}

/// Calls a method of a list or tuple; none when there is no such method.
pub(crate) fn of_list(receiver: &Value, method: &str, arguments: &[Value]) -> Option<Result<Value, Error>> {
    Some(match method {
        "index" => index(receiver, arguments),
        "count" => count(receiver, arguments),
        "copy" if !receiver.is_tuple() => all(arguments).map(|()| receiver.clone()),
        other => return refused(other),
    })
}

fn index(receiver: &Value, arguments: &[Value]) -> Result<Value, Error> {
    let [wanted, start, stop] = Arguments::new(arguments)?.bind(["value", "start", "stop"])?;
    let (wanted, items) = (required(wanted, "value")?, items(receiver)?);
    let position = |value: Option<i64>, default: usize| match value {
        None => default,
        Some(at) if at < 0 => {
            items.len().saturating_sub(usize::try_from(at.unsigned_abs()).unwrap_or(usize::MAX))
        }
        Some(at) => usize::try_from(at).unwrap_or(usize::MAX),
    };
    let start = position(optional_integer(start.as_ref())?, 0);
    let stop = position(optional_integer(stop.as_ref())?, items.len());
    let mut candidates = items.iter().enumerate().take(stop).skip(start);
    candidates
        .find(|(_, item)| **item == wanted)
        .map(|(at, _)| at.into())
        .ok_or_else(|| invalid("the value is not in the list"))
}

fn count(receiver: &Value, arguments: &[Value]) -> Result<Value, Error> {
    let [wanted] = Arguments::new(arguments)?.bind(["value"])?;
    let (wanted, items) = (required(wanted, "value")?, items(receiver)?);
    Ok(items.iter().filter(|item| **item == wanted).count().into())
}
