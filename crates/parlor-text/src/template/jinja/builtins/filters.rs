//! Jinja2's filters that the engine lacks or defines differently.
//!
//! Leaves out `random`, `urlize` and `xmlattr`, and `pprint` of what does not fit on a line.

use std::cmp::Ordering;

use minijinja::value::{Kwargs, Rest, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Value};

use super::{json, sequences};
use crate::template::jinja::dict::is_callable;
use crate::template::jinja::methods::{self, capitalize, replaced};
use crate::template::jinja::values::arguments::{
    self, Arguments, flag, integer, optional_integer, required, together,
};
use crate::template::jinja::values::characters::is_space;
use crate::template::jinja::values::error::invalid;
use crate::template::jinja::values::format::percent_with;
use crate::template::jinja::values::iterate::{entries, items, pairs};
use crate::template::jinja::values::numbers::{self, is_float, is_integer};
use crate::template::jinja::values::spelling;

type Result<T> = std::result::Result<T, Error>;

/// Filters of the engine that Jinja2 does not have, and refuses.
const FOREIGN: [&str; 5] = ["bool", "chain", "lines", "split", "zip"];

/// Widest line that `pprint` leaves alone.
const PPRINT_WIDTH: usize = 80;

pub(crate) fn add(environment: &mut Environment<'static>) {
    FOREIGN.iter().for_each(|name| environment.remove_filter(name));
    let mut filter = |name: &'static str, apply: fn(&Value, &[Value]) -> Result<Value>| {
        environment.add_filter(name, move |value: &Value, rest: Rest<Value>, named: Kwargs| {
            apply(value, &together(rest, named))
        });
    };
    filter("tojson", json::tojson);
    for name in ["default", "d"] {
        filter(name, |value, rest| {
            let [default, boolean] = Arguments::new(rest)?.bind(["default_value", "boolean"])?;
            let absent = value.is_undefined() || (flag(boolean.as_ref(), false) && !value.is_true());
            Ok(if absent { default.unwrap_or_else(|| "".into()) } else { value.clone() })
        });
    }
    filter("string", |value, rest| none(rest).and_then(|()| text(value)).map(Value::from));
    filter("safe", |value, rest| none(rest).and_then(|()| text(value)).map(Value::from));
    filter("join", sequences::join);
    filter("sort", sequences::sort);
    filter("unique", sequences::unique);
    filter("min", |value, rest| sequences::extreme(value, rest, Ordering::Less));
    filter("max", |value, rest| sequences::extreme(value, rest, Ordering::Greater));
    filter("groupby", sequences::group_by);
    filter("dictsort", sequences::dict_sort);
    filter("items", |value, rest| {
        none(rest)?;
        match value.kind() {
            ValueKind::Undefined => Ok(Value::from(Vec::<Value>::new())),
            ValueKind::Map => Ok(pairs(entries(value)?)),
            other => Err(invalid(format!("can only get item pairs from a mapping, not {other}"))),
        }
    });
    filter("trim", trim);
    filter("title", |value, rest| none(rest).and_then(|()| text(value)).map(|text| title(&text).into()));
    filter("capitalize", |value, rest| {
        none(rest).and_then(|()| text(value)).map(|text| capitalize(&text).into())
    });
    filter("upper", |value, rest| {
        none(rest).and_then(|()| text(value)).map(|text| text.to_uppercase().into())
    });
    filter("lower", |value, rest| {
        none(rest).and_then(|()| text(value)).map(|text| text.to_lowercase().into())
    });
    filter("replace", replace);
    filter("indent", indent);
    filter("center", center);
    filter("int", int);
    filter("float", float);
    filter("round", round);
    filter("attr", attr);
    filter("format", |value, rest| percent_with(&text(value)?, rest));
    for name in ["e", "escape", "forceescape"] {
        filter(name, |value, rest| none(rest).and_then(|()| text(value)).map(|text| escaped(&text).into()));
    }
    filter("urlencode", url_encode);
    filter("striptags", |value, rest| {
        none(rest).and_then(|()| text(value)).map(|text| minijinja_contrib::filters::striptags(text).into())
    });
    filter("wordcount", |value, rest| none(rest).and_then(|()| text(value)).map(|text| words(&text).into()));
    filter("filesizeformat", |value, rest| {
        let [binary] = Arguments::new(rest)?.bind(["binary"])?;
        let size = f64::try_from(value.clone())?;
        Ok(minijinja_contrib::filters::filesizeformat(size, Some(flag(binary.as_ref(), false))).into())
    });
    filter("wordwrap", word_wrap);
    filter("truncate", truncate);
    filter("pprint", |value, _| {
        let written = spelling::repr(value)?;
        match written.chars().count() < PPRINT_WIDTH {
            true => Ok(written.into()),
            false => Err(invalid("`pprint` of a value that does not fit on a line is not supported")),
        }
    });
}

fn none(rest: &[Value]) -> Result<()> {
    Arguments::new(rest)?.none()
}

/// Refuses an undefined value.
fn defined(value: &Value) -> Result<()> {
    if value.is_undefined() { Err(Error::from(ErrorKind::UndefinedError)) } else { Ok(()) }
}

/// `soft_str`.
fn text(value: &Value) -> Result<String> {
    spelling::text(value)
}

fn trim(value: &Value, rest: &[Value]) -> Result<Value> {
    let [characters] = Arguments::new(rest)?.bind(["chars"])?;
    let text = text(value)?;
    let characters = characters.filter(|characters| !characters.is_none());
    let set = characters.as_ref().map(arguments::text).transpose()?;
    Ok(text.trim_matches(|c| set.map_or_else(|| is_space(c), |set| set.contains(c))).into())
}

/// Jinja2's own `title`: words begin after white space, `-`, and opening brackets.
fn title(text: &str) -> String {
    let (mut out, mut begins) = (String::with_capacity(text.len()), true);
    for c in text.chars() {
        let between = c == '-' || is_space(c) || matches!(c, '(' | '{' | '[' | '<');
        if between {
            out.push(c);
        } else if begins {
            out.extend(c.to_uppercase());
        } else {
            out.extend(c.to_lowercase());
        }
        begins = between;
    }
    out
}

fn replace(value: &Value, rest: &[Value]) -> Result<Value> {
    let [old, new, count] = Arguments::new(rest)?.bind(["old", "new", "count"])?;
    let (old, new) = (text(&required(old, "old")?)?, text(&required(new, "new")?)?);
    Ok(replaced(&text(value)?, &old, &new, optional_integer(count.as_ref())?).into())
}

/// `indent(s, width=4, first=False, blank=False)`.
fn indent(value: &Value, rest: &[Value]) -> Result<Value> {
    let [width, first, blank] = Arguments::new(rest)?.bind(["width", "first", "blank"])?;
    let indention = match &width {
        None => " ".repeat(4),
        Some(width) => match width.as_str() {
            Some(text) => text.to_owned(),
            None => " ".repeat(usize::try_from(integer(width)?.clamp(0, 1 << 16)).unwrap_or(0)),
        },
    };
    let text = text(value)?;
    let lines: Vec<&str> = text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line)).collect();
    let (first, blank) = (flag(first.as_ref(), false), flag(blank.as_ref(), false));
    let mut out = String::new();
    for (index, line) in lines.iter().enumerate() {
        if index > 0 {
            out.push('\n');
        }
        if if index == 0 { first } else { blank || !line.is_empty() } {
            out.push_str(&indention);
        }
        out.push_str(line);
    }
    Ok(out.into())
}

fn center(value: &Value, rest: &[Value]) -> Result<Value> {
    let [width] = Arguments::new(rest)?.bind(["width"])?;
    let width = width.unwrap_or_else(|| Value::from(80));
    methods::text::call(&text(value)?, "center", &[width]).unwrap_or_else(|| Err(invalid("`center` failed")))
}

/// `int(value, default=0, base=10)`.
fn int(value: &Value, rest: &[Value]) -> Result<Value> {
    let [default, base] = Arguments::new(rest)?.bind(["default", "base"])?;
    defined(value)?;
    let base = u32::try_from(optional_integer(base.as_ref())?.unwrap_or(10)).unwrap_or(10);
    if is_integer(value) {
        return Ok(if value.kind() == ValueKind::Bool {
            i64::from(value.is_true()).into()
        } else {
            value.clone()
        });
    }
    let whole = |number: f64| number.is_finite().then(|| numbers::integer(&format!("{:.0}", number.trunc())));
    let found = match value.as_str() {
        Some(text) => parsed_integer(text, base).or_else(|| parsed_float(text).and_then(whole)),
        None if is_float(value) => f64::try_from(value.clone()).ok().and_then(whole),
        None => None,
    };
    Ok(found.or(default).unwrap_or_else(|| Value::from(0)))
}

/// `int(text, base)`: a sign, a prefix of the base, underscores between digits.
fn parsed_integer(text: &str, base: u32) -> Option<Value> {
    let text = text.trim_matches(is_space);
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let prefixes: &[&str] = match base {
        2 => &["0b", "0B"],
        8 => &["0o", "0O"],
        16 => &["0x", "0X"],
        _ => &[],
    };
    let digits = prefixes.iter().find_map(|prefix| digits.strip_prefix(prefix)).unwrap_or(digits);
    let between = !digits.starts_with('_') && !digits.ends_with('_') && !digits.contains("__");
    let digits = digits.replace('_', "");
    if digits.is_empty() || !between || !(2..=36).contains(&base) {
        return None;
    }
    if base == 10 {
        return digits
            .bytes()
            .all(|b| b.is_ascii_digit())
            .then(|| numbers::integer(&format!("{sign}{digits}")));
    }
    let magnitude = i128::from_str_radix(&digits, base).ok()?;
    Some(Value::from(if sign.is_empty() { magnitude } else { -magnitude }))
}

fn parsed_float(text: &str) -> Option<f64> {
    let text = text.trim_matches(is_space).replace('_', "");
    text.parse().ok()
}

/// `float(value, default=0.0)`.
fn float(value: &Value, rest: &[Value]) -> Result<Value> {
    let [default] = Arguments::new(rest)?.bind(["default"])?;
    defined(value)?;
    let found = match value.as_str() {
        Some(text) => parsed_float(text),
        None if value.kind() == ValueKind::Bool => Some(f64::from(u8::from(value.is_true()))),
        None => f64::try_from(value.clone()).ok(),
    };
    Ok(found.map(Value::from).or(default).unwrap_or_else(|| Value::from(0.0)))
}

/// `round(value, precision=0, method='common')`.
fn round(value: &Value, rest: &[Value]) -> Result<Value> {
    let [precision, method] = Arguments::new(rest)?.bind(["precision", "method"])?;
    let precision = optional_integer(precision.as_ref())?.unwrap_or(0).clamp(-400, 400) as i32;
    let method = method.as_ref().map_or(Ok("common"), arguments::text)?.to_owned();
    if !matches!(method.as_str(), "common" | "ceil" | "floor") {
        return Err(invalid("method must be common, ceil or floor"));
    }
    if is_integer(value) && method == "common" && precision >= 0 {
        return Ok(value.clone());
    }
    if !value.is_number() && value.kind() != ValueKind::Bool {
        return Err(invalid(format!("a number was expected, not {}", value.kind())));
    }
    let number = f64::try_from(value.clone())?;
    let scale = 10f64.powi(precision);
    let rounded = match method.as_str() {
        "ceil" => (number * scale).ceil() / scale,
        "floor" => (number * scale).floor() / scale,
        // Both round the exact decimal expansion, halves to even.
        _ if precision >= 0 => {
            format!("{number:.*}", usize::try_from(precision).unwrap_or(0)).parse().unwrap_or(number)
        }
        _ => (number * scale).round_ties_even() / scale,
    };
    if is_integer(value) && method == "common" {
        return Ok(numbers::integer(&format!("{rounded:.0}")));
    }
    Ok(rounded.into())
}

/// `attr(obj, name)`: an attribute and never an item, so of a dictionary its methods.
fn attr(value: &Value, rest: &[Value]) -> Result<Value> {
    let [name] = Arguments::new(rest)?.bind(["name"])?;
    let name = required(name, "name")?;
    let found = value.get_attr(arguments::text(&name)?)?;
    let is_method = is_callable(&found);
    Ok(if value.kind() != ValueKind::Map || is_method { found } else { Value::UNDEFINED })
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// `urlencode`: a text, or pairs as a query.
fn url_encode(value: &Value, rest: &[Value]) -> Result<Value> {
    none(rest)?;
    let entries = match value.kind() {
        ValueKind::Map => entries(value)?,
        ValueKind::Seq | ValueKind::Iterable => {
            let pair = |item: Value| match &items(&item)?[..] {
                [key, value] => Ok((key.clone(), value.clone())),
                _ => Err(invalid("`urlencode` of a list takes pairs")),
            };
            items(value)?.into_iter().map(pair).collect::<Result<_>>()?
        }
        _ => return Ok(quoted(&text(value)?, "/").into()),
    };
    let mut parts = Vec::new();
    for (key, value) in entries {
        parts.push(format!("{}={}", quoted(&text(&key)?, " "), quoted(&text(&value)?, " ")));
    }
    Ok(parts.join("&").replace(' ', "+").into())
}

fn quoted(text: &str, safe: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        let c = char::from(byte);
        if c.is_ascii_alphanumeric() || "_.-~".contains(c) || (byte.is_ascii() && safe.contains(c)) {
            out.push(c);
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Runs of letters, digits and `_`.
fn words(text: &str) -> usize {
    text.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| !word.is_empty()).count()
}

/// `wordwrap(s, width=79, break_long_words=True, wrapstring=None, break_on_hyphens=True)`, by white space alone.
fn word_wrap(value: &Value, rest: &[Value]) -> Result<Value> {
    let [width, long, with, _] =
        Arguments::new(rest)?.bind(["width", "break_long_words", "wrapstring", "break_on_hyphens"])?;
    let width = usize::try_from(optional_integer(width.as_ref())?.unwrap_or(79)).unwrap_or(0).max(1);
    let cut_long = flag(long.as_ref(), true);
    let with = with.filter(|with| !with.is_none()).map_or(Ok("\n".to_owned()), |with| text(&with))?;
    let wrapped: Vec<String> =
        text(value)?.lines().map(|line| wrapped_line(line, width, cut_long).join(&with)).collect();
    Ok(wrapped.join("\n").into())
}

fn wrapped_line(line: &str, width: usize, cut_long: bool) -> Vec<String> {
    let (mut lines, mut current) = (Vec::new(), String::new());
    for word in line.split(is_space).filter(|word| !word.is_empty()) {
        let mut word: Vec<char> = word.chars().collect();
        let used = current.chars().count();
        if used > 0 && used + 1 + word.len() > width {
            lines.push(std::mem::take(&mut current));
        } else if used > 0 {
            current.push(' ');
        }
        while cut_long && word.len() > width {
            lines.push(word.drain(..width).collect());
        }
        current.extend(word);
    }
    lines.push(current);
    lines
}

/// `truncate(s, length=255, killwords=False, end='...', leeway=5)`.
fn truncate(value: &Value, rest: &[Value]) -> Result<Value> {
    let [length, kill, end, leeway] = Arguments::new(rest)?.bind(["length", "killwords", "end", "leeway"])?;
    let size = |value: Option<Value>, default: i64| {
        Ok::<_, Error>(usize::try_from(optional_integer(value.as_ref())?.unwrap_or(default)).unwrap_or(0))
    };
    let (length, leeway) = (size(length, 255)?, size(leeway, 5)?);
    let end = end.map_or(Ok("...".to_owned()), |end| text(&end))?;
    let whole = text(value)?;
    let room = length
        .checked_sub(end.chars().count())
        .ok_or_else(|| invalid(format!("expected length >= {}, got {length}", end.chars().count())))?;
    if whole.chars().count() <= length + leeway {
        return Ok(whole.into());
    }
    let cut: String = whole.chars().take(room).collect();
    let kept = match cut.rsplit_once(' ') {
        Some((before, _)) if !flag(kill.as_ref(), false) => before,
        _ => &cut,
    };
    Ok(format!("{kept}{end}").into())
}
