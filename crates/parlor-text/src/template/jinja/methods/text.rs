//! The methods of Python's `str`.
//!
//! White space, line breaks and case follow CPython. Leaves out `encode`, `maketrans` and `translate`.

use minijinja::{Error, Value};

use super::case::{capitalize, casefold, has_case, is_identifier, swapcase, title};
use super::padding::{Side, expand_tabs, padded, stripped, zfill};
use super::search::{Direction, affix, begins, count, found, found_or_error, replace};
use super::splitting::{partition, split, split_lines};
use crate::template::jinja::values::arguments::{Arguments, required, text};
use crate::template::jinja::values::characters::{
    is_alphabetic, is_decimal, is_digit, is_printable, is_space,
};
use crate::template::jinja::values::format::str_format;

/// Calls `method`; none when `str` has no such method.
pub(crate) fn call(receiver: &str, method: &str, arguments: &[Value]) -> Option<Result<Value, Error>> {
    let plain: Option<Value> = match method {
        "upper" => Some(receiver.to_uppercase().into()),
        "lower" => Some(receiver.to_lowercase().into()),
        "casefold" => Some(casefold(receiver).into()),
        "title" => Some(title(receiver).into()),
        "capitalize" => Some(capitalize(receiver).into()),
        "swapcase" => Some(swapcase(receiver).into()),
        "isdigit" => Some(all(receiver, |c| c.is_ascii_digit() || is_digit(c)).into()),
        "isdecimal" => Some(all(receiver, is_decimal).into()),
        "isnumeric" => Some(all(receiver, char::is_numeric).into()),
        "isalpha" => Some(all(receiver, is_alphabetic).into()),
        "isalnum" => Some(all(receiver, |c| is_alphabetic(c) || c.is_numeric()).into()),
        "isspace" => Some(all(receiver, is_space).into()),
        "isascii" => Some(receiver.is_ascii().into()),
        "isprintable" => Some(receiver.chars().all(is_printable).into()),
        "isidentifier" => Some(is_identifier(receiver).into()),
        "isupper" => Some(has_case(receiver, char::is_uppercase, char::is_lowercase).into()),
        "islower" => Some(has_case(receiver, char::is_lowercase, char::is_uppercase).into()),
        "istitle" => Some((receiver.chars().any(char::is_alphabetic) && title(receiver) == receiver).into()),
        _ => None,
    };
    if let Some(value) = plain {
        return Some(Arguments::new(arguments).and_then(Arguments::none).map(|()| value));
    }
    let arguments = match Arguments::new(arguments) {
        Ok(bound) => bound,
        Err(error) => return Some(Err(error)),
    };
    Some(match method {
        "strip" => stripped(receiver, arguments, Side::Both),
        "lstrip" => stripped(receiver, arguments, Side::Left),
        "rstrip" => stripped(receiver, arguments, Side::Right),
        "split" => split(receiver, arguments, Direction::FromStart),
        "rsplit" => split(receiver, arguments, Direction::FromEnd),
        "splitlines" => split_lines(receiver, arguments),
        "partition" => partition(receiver, arguments, Direction::FromStart),
        "rpartition" => partition(receiver, arguments, Direction::FromEnd),
        "removeprefix" => affix(receiver, arguments, |text, affix| text.strip_prefix(affix)),
        "removesuffix" => affix(receiver, arguments, |text, affix| text.strip_suffix(affix)),
        "startswith" => begins(receiver, arguments, |text, affix| text.starts_with(affix)),
        "endswith" => begins(receiver, arguments, |text, affix| text.ends_with(affix)),
        "find" => {
            found(receiver, arguments, Direction::FromStart).map(|at| at.map_or(-1, |at| at as i64).into())
        }
        "rfind" => {
            found(receiver, arguments, Direction::FromEnd).map(|at| at.map_or(-1, |at| at as i64).into())
        }
        "index" => found(receiver, arguments, Direction::FromStart).and_then(found_or_error),
        "rindex" => found(receiver, arguments, Direction::FromEnd).and_then(found_or_error),
        "count" => count(receiver, arguments),
        "replace" => replace(receiver, arguments),
        "join" => join(receiver, arguments),
        "zfill" => zfill(receiver, arguments),
        "ljust" => padded(receiver, arguments, Side::Right),
        "rjust" => padded(receiver, arguments, Side::Left),
        "center" => padded(receiver, arguments, Side::Both),
        "expandtabs" => expand_tabs(receiver, arguments),
        "format" => str_format(receiver, arguments),
        _ => return None,
    })
}

fn all(text: &str, predicate: impl Fn(char) -> bool) -> bool {
    !text.is_empty() && text.chars().all(predicate)
}

/// `str.join`.
fn join(receiver: &str, arguments: Arguments<'_>) -> Result<Value, Error> {
    let [items] = arguments.bind(["iterable"])?;
    let items = required(items, "iterable")?;
    let mut out = String::new();
    for (index, item) in items.try_iter()?.enumerate() {
        if index > 0 {
            out.push_str(receiver);
        }
        out.push_str(text(&item)?);
    }
    Ok(out.into())
}
