//! The methods of `str` that find, count and replace, and those that test or remove its beginning and end.

use minijinja::{Error, Value};

use crate::template::jinja::values::arguments::{Arguments, optional_integer, required, text};
use crate::template::jinja::values::error::invalid;
use crate::template::jinja::values::iterate::items;

/// Where a search begins.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    FromStart,
    FromEnd,
}

/// `str.removeprefix` and `removesuffix`.
pub(crate) fn affix(
    receiver: &str,
    arguments: Arguments<'_>,
    strip: impl for<'t> Fn(&'t str, &str) -> Option<&'t str>,
) -> Result<Value, Error> {
    let [affix] = arguments.bind(["affix"])?;
    let affix = required(affix, "affix")?;
    Ok(strip(receiver, text(&affix)?).unwrap_or(receiver).into())
}

/// The part of a text between two character positions, as Python slices it, and the number of characters
/// before it. None when `start` lies behind `end` or the end of the text.
fn between<'t>(
    text: &'t str,
    start: Option<&Value>,
    end: Option<&Value>,
) -> Result<Option<(&'t str, usize)>, Error> {
    let length = text.chars().count();
    let position = |value: Option<&Value>, default: usize| -> Result<usize, Error> {
        Ok(match optional_integer(value)? {
            None => default,
            Some(at) if at < 0 => length.saturating_sub(usize::try_from(at.unsigned_abs()).unwrap_or(length)),
            Some(at) => usize::try_from(at).unwrap_or(usize::MAX),
        })
    };
    let (start, end) = (position(start, 0)?, position(end, length)?.min(length));
    if start > end {
        return Ok(None);
    }
    let byte = |at: usize| text.char_indices().nth(at).map_or(text.len(), |(byte, _)| byte);
    Ok(Some((&text[byte(start)..byte(end)], start)))
}

/// `str.startswith` and `endswith`.
pub(crate) fn begins(
    receiver: &str,
    arguments: Arguments<'_>,
    predicate: impl Fn(&str, &str) -> bool,
) -> Result<Value, Error> {
    let [affix, start, end] = arguments.bind(["affix", "start", "end"])?;
    let affix = required(affix, "affix")?;
    let affixes = if affix.is_tuple() { items(&affix)? } else { vec![affix] };
    let part = between(receiver, start.as_ref(), end.as_ref())?;
    let mut any = false;
    for affix in &affixes {
        let affix = text(affix)?;
        any |= part.is_some_and(|(part, _)| predicate(part, affix));
    }
    Ok(any.into())
}

/// `str.find` and `rfind`, as the number of characters before the match.
pub(crate) fn found(
    receiver: &str,
    arguments: Arguments<'_>,
    from: Direction,
) -> Result<Option<usize>, Error> {
    let [wanted, start, end] = arguments.bind(["sub", "start", "end"])?;
    let wanted = required(wanted, "sub")?;
    let wanted = text(&wanted)?;
    let Some((part, before)) = between(receiver, start.as_ref(), end.as_ref())? else { return Ok(None) };
    let at = match from {
        Direction::FromStart => part.find(wanted),
        Direction::FromEnd => part.rfind(wanted),
    };
    Ok(at.map(|at| before + part[..at].chars().count()))
}

/// `str.index` and `rindex`: `find` that fails.
pub(crate) fn found_or_error(position: Option<usize>) -> Result<Value, Error> {
    position.map(Value::from).ok_or_else(|| invalid("substring not found"))
}

/// `str.count`.
pub(crate) fn count(receiver: &str, arguments: Arguments<'_>) -> Result<Value, Error> {
    let [wanted, start, end] = arguments.bind(["sub", "start", "end"])?;
    let wanted = required(wanted, "sub")?;
    let wanted = text(&wanted)?;
    let part = between(receiver, start.as_ref(), end.as_ref())?;
    Ok(part.map_or(0, |(part, _)| part.matches(wanted).count()).into())
}

/// `str.replace`.
pub(crate) fn replace(receiver: &str, arguments: Arguments<'_>) -> Result<Value, Error> {
    let [old, new, most] = arguments.bind(["old", "new", "count"])?;
    let (old, new) = (required(old, "old")?, required(new, "new")?);
    Ok(replaced(receiver, text(&old)?, text(&new)?, optional_integer(most.as_ref())?).into())
}

/// Replaces the first `most` matches; a negative number replaces all.
pub(crate) fn replaced(receiver: &str, old: &str, new: &str, most: Option<i64>) -> String {
    match most.and_then(|most| usize::try_from(most).ok()) {
        Some(most) => receiver.replacen(old, new, most),
        None => receiver.replace(old, new),
    }
}
