//! The methods of `str` that strip or pad its ends, and `expandtabs`.

use minijinja::{Error, Value};

use crate::template::jinja::values::arguments::{Arguments, integer, optional_integer, required, text};
use crate::template::jinja::values::characters::is_space;
use crate::template::jinja::values::error::invalid;

/// Longest padding that a template may ask for.
const MAX_WIDTH: i64 = 1 << 20;

/// Which ends of a text.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Left,
    Right,
    Both,
}

/// `str.strip`, `lstrip` and `rstrip`.
pub(crate) fn stripped(receiver: &str, arguments: Arguments<'_>, side: Side) -> Result<Value, Error> {
    let [characters] = arguments.bind(["chars"])?;
    let characters = characters.filter(|characters| !characters.is_none());
    let set = characters.as_ref().map(text).transpose()?;
    let cut = |c: char| set.map_or_else(|| is_space(c), |set| set.contains(c));
    Ok(match side {
        Side::Left => receiver.trim_start_matches(cut),
        Side::Right => receiver.trim_end_matches(cut),
        Side::Both => receiver.trim_matches(cut),
    }
    .into())
}

/// A width of at most [`MAX_WIDTH`], and how many characters are missing from `text`.
fn missing(text: &str, width: Option<Value>) -> Result<usize, Error> {
    let width = integer(&required(width, "width")?)?;
    if width > MAX_WIDTH {
        return Err(invalid(format!("a width of {width}; at most {MAX_WIDTH} are written")));
    }
    Ok(usize::try_from(width).unwrap_or(0).saturating_sub(text.chars().count()))
}

/// `str.zfill`.
pub(crate) fn zfill(receiver: &str, arguments: Arguments<'_>) -> Result<Value, Error> {
    let [width] = arguments.bind(["width"])?;
    let zeros = "0".repeat(missing(receiver, width)?);
    let sign = receiver.starts_with(['+', '-']).into();
    let (sign, digits) = receiver.split_at(sign);
    Ok(format!("{sign}{zeros}{digits}").into())
}

/// `str.ljust`, `rjust` and `center`; `side` is the side of the padding.
pub(crate) fn padded(receiver: &str, arguments: Arguments<'_>, side: Side) -> Result<Value, Error> {
    let [width, fill] = arguments.bind(["width", "fillchar"])?;
    let missing = missing(receiver, width.clone())?;
    let fill = fill.unwrap_or_else(|| " ".into());
    let fill = text(&fill)?;
    if fill.chars().count() != 1 {
        return Err(invalid("the fill character must be one character"));
    }
    let left = match side {
        Side::Left => missing,
        Side::Right => 0,
        // CPython: the odd one goes left when the width is odd.
        Side::Both => {
            let odd = width.and_then(|width| width.as_i64()).is_some_and(|width| width % 2 != 0);
            missing / 2 + usize::from(missing % 2 == 1 && odd)
        }
    };
    Ok(format!("{}{receiver}{}", fill.repeat(left), fill.repeat(missing - left)).into())
}

/// `str.expandtabs`.
pub(crate) fn expand_tabs(receiver: &str, arguments: Arguments<'_>) -> Result<Value, Error> {
    let [size] = arguments.bind(["tabsize"])?;
    let size = optional_integer(size.as_ref())?.unwrap_or(8).clamp(0, MAX_WIDTH);
    let size = usize::try_from(size).unwrap_or(0);
    let (mut out, mut column) = (String::new(), 0);
    for c in receiver.chars() {
        match c {
            '\t' => {
                let spaces = if size == 0 { 0 } else { size - column % size };
                out.extend(std::iter::repeat_n(' ', spaces));
                column += spaces;
            }
            c => {
                out.push(c);
                column = if matches!(c, '\n' | '\r') { 0 } else { column + 1 };
            }
        }
    }
    Ok(out.into())
}
