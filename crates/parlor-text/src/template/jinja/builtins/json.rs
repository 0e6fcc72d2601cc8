//! `json.dumps`, as the `tojson` filter of `transformers` calls it.

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, Value};

use crate::template::jinja::values::arguments::{Arguments, flag, integer, text};
use crate::template::jinja::values::error::invalid;
use crate::template::jinja::values::numbers::{is_float, is_integer};
use crate::template::jinja::values::spelling::float;

/// How a value is written.
struct Style {
    ensure_ascii: bool,
    /// What stands before each element, per level; none writes everything on one line.
    indent: Option<String>,
    item_separator: String,
    key_separator: String,
    sort_keys: bool,
}

const MAX_DEPTH: usize = 200;

/// `tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False)`.
pub(crate) fn tojson(value: &Value, arguments: &[Value]) -> Result<Value, Error> {
    let [ensure_ascii, indent, separators, sort_keys] =
        Arguments::new(arguments)?.bind(["ensure_ascii", "indent", "separators", "sort_keys"])?;
    let indent = match indent {
        Some(indent) if indent.is_none() => None,
        Some(indent) => Some(match indent.as_str() {
            Some(indent) => indent.to_owned(),
            None => " ".repeat(usize::try_from(integer(&indent)?.clamp(0, 1024)).unwrap_or(0)),
        }),
        None => None,
    };
    let (mut item_separator, mut key_separator) =
        (if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned());
    if let Some(separators) = separators.filter(|separators| !separators.is_none()) {
        let parts: Vec<Value> = separators.try_iter()?.collect();
        match &parts[..] {
            [item, key] => {
                item_separator = text(item)?.to_owned();
                key_separator = text(key)?.to_owned();
            }
            _ => return Err(invalid("`separators` has two texts: between items, and after a key")),
        }
    }
    let style = Style {
        ensure_ascii: flag(ensure_ascii.as_ref(), false),
        indent,
        item_separator,
        key_separator,
        sort_keys: flag(sort_keys.as_ref(), false),
    };
    let mut out = String::new();
    write(value, &style, 0, &mut out)?;
    Ok(Value::from(out))
}

fn refused(what: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::BadSerialization, format!("{what} is not JSON serializable"))
}

fn write(value: &Value, style: &Style, depth: usize, out: &mut String) -> Result<(), Error> {
    if depth > MAX_DEPTH {
        return Err(refused("a value that is nested so deeply"));
    }
    match value.kind() {
        ValueKind::None => out.push_str("null"),
        ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number => out.push_str(&number(value)),
        ValueKind::String => quote(value.as_str().unwrap_or_default(), style.ensure_ascii, out),
        ValueKind::Seq => {
            out.push('[');
            let mut count = 0;
            for item in value.try_iter()? {
                next(style, depth, count, out);
                write(&item, style, depth + 1, out)?;
                count += 1;
            }
            close(style, depth, count, out);
            out.push(']');
        }
        ValueKind::Map => {
            out.push('{');
            let mut keys = Vec::new();
            for key in value.try_iter()? {
                keys.push((self::key(&key)?, key));
            }
            if style.sort_keys {
                if keys.windows(2).any(|pair| pair[0].1.kind() != pair[1].1.kind()) {
                    return Err(invalid("keys of different types cannot be sorted"));
                }
                keys.sort_by(|a, b| a.0.cmp(&b.0));
            }
            let count = keys.len();
            for (index, (name, key)) in keys.into_iter().enumerate() {
                next(style, depth, index, out);
                quote(&name, style.ensure_ascii, out);
                out.push_str(&style.key_separator);
                write(&value.get_item(&key)?, style, depth + 1, out)?;
            }
            close(style, depth, count, out);
            out.push('}');
        }
        ValueKind::Plain if is_integer(value) => out.push_str(&value.to_string()),
        ValueKind::Undefined => return Err(refused("an undefined value")),
        other => return Err(refused(format!("a value of type {other}"))),
    }
    Ok(())
}

fn next(style: &Style, depth: usize, index: usize, out: &mut String) {
    if index > 0 {
        out.push_str(&style.item_separator);
    }
    line(style, depth + 1, out);
}

fn close(style: &Style, depth: usize, count: usize, out: &mut String) {
    if count > 0 {
        line(style, depth, out);
    }
}

fn line(style: &Style, depth: usize, out: &mut String) {
    if let Some(indent) = &style.indent {
        out.push('\n');
        out.extend(std::iter::repeat_n(indent.as_str(), depth));
    }
}

fn number(value: &Value) -> String {
    if !is_float(value) {
        return value.to_string();
    }
    match f64::try_from(value.clone()).unwrap_or(f64::NAN) {
        value if value.is_nan() => "NaN".to_owned(),
        f64::INFINITY => "Infinity".to_owned(),
        f64::NEG_INFINITY => "-Infinity".to_owned(),
        value => float(value),
    }
}

/// A key as text: `json.dumps` takes texts, numbers, booleans and `None`.
fn key(value: &Value) -> Result<String, Error> {
    Ok(match value.kind() {
        ValueKind::String => value.as_str().unwrap_or_default().to_owned(),
        ValueKind::None => "null".to_owned(),
        ValueKind::Bool => if value.is_true() { "true" } else { "false" }.to_owned(),
        ValueKind::Number => number(value),
        other => return Err(refused(format!("a dictionary with a key of type {other}"))),
    })
}

fn quote(text: &str, ensure_ascii: bool, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if c < ' ' => out.push_str(&format!("\\u{:04x}", c as u32)),
            c if ensure_ascii && !(' '..='~').contains(&c) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
}
