//! The methods of `str` that split it.

use minijinja::value::Tuple;
use minijinja::{Error, Value};

use super::search::Direction;
use crate::template::jinja::values::arguments::{Arguments, flag, optional_integer, required, text};
use crate::template::jinja::values::characters::is_space;
use crate::template::jinja::values::error::invalid;

fn list<'a>(parts: impl IntoIterator<Item = &'a str>) -> Value {
    Value::from(parts.into_iter().map(Value::from).collect::<Vec<_>>())
}

/// `str.split` and `rsplit`.
pub(crate) fn split(receiver: &str, arguments: Arguments<'_>, from: Direction) -> Result<Value, Error> {
    let [separator, most] = arguments.bind(["sep", "maxsplit"])?;
    let most = match optional_integer(most.as_ref())? {
        Some(most) => usize::try_from(most).unwrap_or(usize::MAX),
        None => usize::MAX,
    };
    let Some(separator) = separator.filter(|separator| !separator.is_none()) else {
        return Ok(list(split_space(receiver, most, from)));
    };
    let separator = text(&separator)?;
    if separator.is_empty() {
        return Err(invalid("empty separator"));
    }
    let parts = most.saturating_add(1);
    Ok(match from {
        Direction::FromStart => list(receiver.splitn(parts, separator)),
        Direction::FromEnd => {
            let mut found: Vec<&str> = receiver.rsplitn(parts, separator).collect();
            found.reverse();
            list(found)
        }
    })
}

/// Splits at runs of white space.
fn split_space(text: &str, most: usize, from: Direction) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = text.trim_matches(is_space);
    while !rest.is_empty() {
        let at = match from {
            Direction::FromStart => rest.find(is_space),
            Direction::FromEnd => rest.rfind(is_space),
        };
        let Some(at) = at.filter(|_| found.len() < most) else {
            found.push(rest);
            break;
        };
        let (before, after) = rest.split_at(at);
        match from {
            Direction::FromStart => {
                found.push(before);
                rest = after.trim_start_matches(is_space);
            }
            Direction::FromEnd => {
                found.push(after.trim_start_matches(is_space));
                rest = before.trim_end_matches(is_space);
            }
        }
    }
    // What was not split keeps the white space at its far end.
    let cut = found.len() > most;
    if let Some(last) = found.last_mut().filter(|_| cut) {
        let offset = last.as_ptr() as usize - text.as_ptr() as usize;
        *last = match from {
            Direction::FromStart => &text[offset..],
            Direction::FromEnd => &text[..offset + last.len()],
        };
    }
    if from == Direction::FromEnd {
        found.reverse();
    }
    found
}

/// `str.splitlines`.
pub(crate) fn split_lines(receiver: &str, arguments: Arguments<'_>) -> Result<Value, Error> {
    let [keep] = arguments.bind(["keepends"])?;
    let keep = flag(keep.as_ref(), false);
    let (mut lines, mut start) = (Vec::new(), 0);
    let mut characters = receiver.char_indices().peekable();
    while let Some((at, c)) = characters.next() {
        let breaks = matches!(
            c,
            '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}'
        );
        if !breaks {
            continue;
        }
        let mut end = at + c.len_utf8();
        if c == '\r' && characters.next_if(|(_, next)| *next == '\n').is_some() {
            end += 1;
        }
        lines.push(&receiver[start..if keep { end } else { at }]);
        start = end;
    }
    if start < receiver.len() {
        lines.push(&receiver[start..]);
    }
    Ok(list(lines))
}

/// `str.partition` and `rpartition`.
pub(crate) fn partition(receiver: &str, arguments: Arguments<'_>, from: Direction) -> Result<Value, Error> {
    let [separator] = arguments.bind(["sep"])?;
    let separator = required(separator, "sep")?;
    let separator = text(&separator)?;
    if separator.is_empty() {
        return Err(invalid("empty separator"));
    }
    let parts = match from {
        Direction::FromStart => {
            receiver.split_once(separator).map_or([receiver, "", ""], |(a, b)| [a, separator, b])
        }
        Direction::FromEnd => {
            receiver.rsplit_once(separator).map_or(["", "", receiver], |(a, b)| [a, separator, b])
        }
    };
    Ok(Value::from(Tuple::from(parts.map(Value::from).to_vec())))
}
