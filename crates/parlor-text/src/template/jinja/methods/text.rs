//! The methods of Python's `str`.
//!
//! White space, line breaks and case follow CPython. Leaves out `encode`, `maketrans` and `translate`.

use minijinja::value::Tuple;
use minijinja::{Error, Value};

use super::arguments::{Arguments, flag, integer, optional_integer, required, text};
use super::{functions, invalid, sequences};

/// Longest padding that a template may ask for.
const MAX_WIDTH: i64 = 1 << 20;

/// Calls `method`; none when `str` has no such method.
pub(super) fn method(receiver: &str, method: &str, arguments: &[Value]) -> Option<Result<Value, Error>> {
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
        "isprintable" => Some(receiver.chars().all(super::spelling::is_printable).into()),
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
        "split" => split(receiver, arguments, From::Start),
        "rsplit" => split(receiver, arguments, From::End),
        "splitlines" => split_lines(receiver, arguments),
        "partition" => partition(receiver, arguments, From::Start),
        "rpartition" => partition(receiver, arguments, From::End),
        "removeprefix" => affix(receiver, arguments, |text, affix| text.strip_prefix(affix)),
        "removesuffix" => affix(receiver, arguments, |text, affix| text.strip_suffix(affix)),
        "startswith" => begins(receiver, arguments, |text, affix| text.starts_with(affix)),
        "endswith" => begins(receiver, arguments, |text, affix| text.ends_with(affix)),
        "find" => found(receiver, arguments, From::Start).map(|at| at.map_or(-1, |at| at as i64).into()),
        "rfind" => found(receiver, arguments, From::End).map(|at| at.map_or(-1, |at| at as i64).into()),
        "index" => found(receiver, arguments, From::Start).and_then(there),
        "rindex" => found(receiver, arguments, From::End).and_then(there),
        "count" => count(receiver, arguments),
        "replace" => replace(receiver, arguments),
        "join" => join(receiver, arguments),
        "zfill" => zfill(receiver, arguments),
        "ljust" => padded(receiver, arguments, Side::Right),
        "rjust" => padded(receiver, arguments, Side::Left),
        "center" => padded(receiver, arguments, Side::Both),
        "expandtabs" => expand_tabs(receiver, arguments),
        "format" => functions::str_format(receiver, arguments),
        _ => return None,
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Left,
    Right,
    Both,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum From {
    Start,
    End,
}

fn all(text: &str, holds: impl Fn(char) -> bool) -> bool {
    !text.is_empty() && text.chars().all(holds)
}

/// `str.isspace` of a character: Unicode's white space, and the four information separators.
pub(super) fn is_space(c: char) -> bool {
    matches!(c, '\u{1c}'..='\u{1f}') || c.is_whitespace()
}

fn category(c: char) -> unicode_properties::GeneralCategory {
    unicode_properties::UnicodeGeneralCategory::general_category(c)
}

fn is_alphabetic(c: char) -> bool {
    use unicode_properties::GeneralCategory as Category;
    matches!(
        category(c),
        Category::UppercaseLetter
            | Category::LowercaseLetter
            | Category::TitlecaseLetter
            | Category::ModifierLetter
            | Category::OtherLetter
    )
}

fn is_decimal(c: char) -> bool {
    category(c) == unicode_properties::GeneralCategory::DecimalNumber
}

/// Decimal digits, and those that are raised, lowered or in circles.
fn is_digit(c: char) -> bool {
    is_decimal(c)
        || matches!(c, '²' | '³' | '¹' | '\u{2070}' | '\u{2074}'..='\u{2079}' | '\u{2080}'..='\u{2089}'
            | '\u{2460}'..='\u{2468}' | '\u{2474}'..='\u{247c}' | '\u{2488}'..='\u{2490}' | '\u{24ea}'
            | '\u{24f5}'..='\u{24fd}' | '\u{24ff}' | '\u{2776}'..='\u{277e}' | '\u{2780}'..='\u{2788}'
            | '\u{278a}'..='\u{2792}')
}

fn is_identifier(text: &str) -> bool {
    let mut characters = text.chars();
    characters.next().is_some_and(|c| c == '_' || is_alphabetic(c))
        && characters.all(|c| c == '_' || is_alphabetic(c) || is_decimal(c))
}

fn has_case(text: &str, wanted: impl Fn(char) -> bool, other: impl Fn(char) -> bool) -> bool {
    text.chars().any(wanted) && !text.chars().any(other)
}

fn casefold(text: &str) -> String {
    text.chars()
        .flat_map(|c| match c {
            'ß' | 'ẞ' => vec!['s', 's'],
            'ς' => vec!['σ'],
            'ſ' => vec!['s'],
            c => c.to_lowercase().collect(),
        })
        .collect()
}

/// `str.title`: after what is no letter, a word begins.
fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut inside = false;
    for c in text.chars() {
        if inside {
            out.extend(c.to_lowercase())
        } else {
            out.push_str(&titlecase(c))
        }
        inside = c.is_alphabetic();
    }
    out
}

/// The title case of a letter: upper case but for the digraphs and for letters that become two.
fn titlecase(c: char) -> String {
    match c {
        'ß' => "Ss".to_owned(),
        'ŉ' => "ʼN".to_owned(),
        'Ǆ' | 'ǅ' | 'ǆ' => "ǅ".to_owned(),
        'Ǉ' | 'ǈ' | 'ǉ' => "ǈ".to_owned(),
        'Ǌ' | 'ǋ' | 'ǌ' => "ǋ".to_owned(),
        'Ǳ' | 'ǲ' | 'ǳ' => "ǲ".to_owned(),
        'ﬁ' => "Fi".to_owned(),
        'ﬂ' => "Fl".to_owned(),
        'ﬀ' => "Ff".to_owned(),
        'ﬃ' => "Ffi".to_owned(),
        'ﬄ' => "Ffl".to_owned(),
        c => c.to_uppercase().collect(),
    }
}

/// `str.capitalize`.
pub(super) fn capitalize(text: &str) -> String {
    let mut characters = text.chars();
    match characters.next() {
        Some(first) => titlecase(first) + &characters.as_str().to_lowercase(),
        None => String::new(),
    }
}

fn swapcase(text: &str) -> String {
    let swap = |c: char| -> String {
        if c.is_uppercase() { c.to_lowercase().collect() } else { c.to_uppercase().collect() }
    };
    text.chars().map(swap).collect()
}

fn stripped(receiver: &str, arguments: Arguments<'_>, side: Side) -> Result<Value, Error> {
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

fn list<'a>(parts: impl IntoIterator<Item = &'a str>) -> Value {
    Value::from(parts.into_iter().map(Value::from).collect::<Vec<_>>())
}

fn split(receiver: &str, arguments: Arguments<'_>, from: From) -> Result<Value, Error> {
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
        From::Start => list(receiver.splitn(parts, separator)),
        From::End => {
            let mut found: Vec<&str> = receiver.rsplitn(parts, separator).collect();
            found.reverse();
            list(found)
        }
    })
}

/// Splits at runs of white space.
fn split_space(text: &str, most: usize, from: From) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = text.trim_matches(is_space);
    while !rest.is_empty() {
        let at = match from {
            From::Start => rest.find(is_space),
            From::End => rest.rfind(is_space),
        };
        let Some(at) = at.filter(|_| found.len() < most) else {
            found.push(rest);
            break;
        };
        let (before, after) = rest.split_at(at);
        match from {
            From::Start => {
                found.push(before);
                rest = after.trim_start_matches(is_space);
            }
            From::End => {
                found.push(after.trim_start_matches(is_space));
                rest = before.trim_end_matches(is_space);
            }
        }
    }
    // What is left keeps the space at its far end.
    let cut = found.len() > most;
    if let Some(last) = found.last_mut().filter(|_| cut) {
        let offset = last.as_ptr() as usize - text.as_ptr() as usize;
        *last = match from {
            From::Start => &text[offset..],
            From::End => &text[..offset + last.len()],
        };
    }
    if from == From::End {
        found.reverse();
    }
    found
}

fn split_lines(receiver: &str, arguments: Arguments<'_>) -> Result<Value, Error> {
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

fn partition(receiver: &str, arguments: Arguments<'_>, from: From) -> Result<Value, Error> {
    let [separator] = arguments.bind(["sep"])?;
    let separator = required(separator, "sep")?;
    let separator = text(&separator)?;
    if separator.is_empty() {
        return Err(invalid("empty separator"));
    }
    let parts = match from {
        From::Start => receiver.split_once(separator).map_or([receiver, "", ""], |(a, b)| [a, separator, b]),
        From::End => receiver.rsplit_once(separator).map_or(["", "", receiver], |(a, b)| [a, separator, b]),
    };
    Ok(Value::from(Tuple::from(parts.map(Value::from).to_vec())))
}

fn affix(
    receiver: &str,
    arguments: Arguments<'_>,
    strip: impl for<'t> Fn(&'t str, &str) -> Option<&'t str>,
) -> Result<Value, Error> {
    let [affix] = arguments.bind(["affix"])?;
    let affix = required(affix, "affix")?;
    Ok(strip(receiver, text(&affix)?).unwrap_or(receiver).into())
}

/// The part of a text between two places, which are counted in characters as slices are; none when it would begin
/// behind its end or the text's. With it, the characters before it.
fn between<'t>(
    text: &'t str,
    start: Option<&Value>,
    end: Option<&Value>,
) -> Result<Option<(&'t str, usize)>, Error> {
    let length = text.chars().count();
    let place = |value: Option<&Value>, default: usize| -> Result<usize, Error> {
        Ok(match optional_integer(value)? {
            None => default,
            Some(at) if at < 0 => length.saturating_sub(usize::try_from(at.unsigned_abs()).unwrap_or(length)),
            Some(at) => usize::try_from(at).unwrap_or(usize::MAX),
        })
    };
    let (start, end) = (place(start, 0)?, place(end, length)?.min(length));
    if start > end {
        return Ok(None);
    }
    let byte = |at: usize| text.char_indices().nth(at).map_or(text.len(), |(byte, _)| byte);
    Ok(Some((&text[byte(start)..byte(end)], start)))
}

fn begins(
    receiver: &str,
    arguments: Arguments<'_>,
    holds: impl Fn(&str, &str) -> bool,
) -> Result<Value, Error> {
    let [affix, start, end] = arguments.bind(["affix", "start", "end"])?;
    let affix = required(affix, "affix")?;
    let affixes = if affix.is_tuple() { sequences::items(&affix)? } else { vec![affix] };
    let part = between(receiver, start.as_ref(), end.as_ref())?;
    let mut any = false;
    for affix in &affixes {
        let affix = text(affix)?;
        any |= part.is_some_and(|(part, _)| holds(part, affix));
    }
    Ok(any.into())
}

/// The place of a text in `receiver`, in characters.
fn found(receiver: &str, arguments: Arguments<'_>, from: From) -> Result<Option<usize>, Error> {
    let [wanted, start, end] = arguments.bind(["sub", "start", "end"])?;
    let wanted = required(wanted, "sub")?;
    let wanted = text(&wanted)?;
    let Some((part, before)) = between(receiver, start.as_ref(), end.as_ref())? else { return Ok(None) };
    let at = match from {
        From::Start => part.find(wanted),
        From::End => part.rfind(wanted),
    };
    Ok(at.map(|at| before + part[..at].chars().count()))
}

fn there(place: Option<usize>) -> Result<Value, Error> {
    place.map(Value::from).ok_or_else(|| invalid("substring not found"))
}

fn count(receiver: &str, arguments: Arguments<'_>) -> Result<Value, Error> {
    let [wanted, start, end] = arguments.bind(["sub", "start", "end"])?;
    let wanted = required(wanted, "sub")?;
    let wanted = text(&wanted)?;
    let part = between(receiver, start.as_ref(), end.as_ref())?;
    Ok(part.map_or(0, |(part, _)| part.matches(wanted).count()).into())
}

fn replace(receiver: &str, arguments: Arguments<'_>) -> Result<Value, Error> {
    let [old, new, most] = arguments.bind(["old", "new", "count"])?;
    let (old, new) = (required(old, "old")?, required(new, "new")?);
    Ok(replaced(receiver, text(&old)?, text(&new)?, optional_integer(most.as_ref())?).into())
}

/// `str.replace`; a negative count replaces all.
pub(super) fn replaced(receiver: &str, old: &str, new: &str, most: Option<i64>) -> String {
    match most.and_then(|most| usize::try_from(most).ok()) {
        Some(most) => receiver.replacen(old, new, most),
        None => receiver.replace(old, new),
    }
}

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

/// A width of at most [`MAX_WIDTH`], and how many characters are missing from `text`.
fn missing(text: &str, width: Option<Value>) -> Result<usize, Error> {
    let width = integer(&required(width, "width")?)?;
    if width > MAX_WIDTH {
        return Err(invalid(format!("a width of {width}; at most {MAX_WIDTH} are written")));
    }
    Ok(usize::try_from(width).unwrap_or(0).saturating_sub(text.chars().count()))
}

fn zfill(receiver: &str, arguments: Arguments<'_>) -> Result<Value, Error> {
    let [width] = arguments.bind(["width"])?;
    let zeros = "0".repeat(missing(receiver, width)?);
    let sign = receiver.starts_with(['+', '-']).into();
    let (sign, digits) = receiver.split_at(sign);
    Ok(format!("{sign}{zeros}{digits}").into())
}

fn padded(receiver: &str, arguments: Arguments<'_>, side: Side) -> Result<Value, Error> {
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

fn expand_tabs(receiver: &str, arguments: Arguments<'_>) -> Result<Value, Error> {
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
