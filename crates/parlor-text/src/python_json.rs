//! Values as Python writes them, in JSON (`json.dumps`) and in text (`str`), since chat templates are written
//! against Python and their output must match it to the byte.
//!
//! No crate writes Python's spelling; this covers what JSON values can be.

use serde_json::Value;

/// `json.dumps(value, ensure_ascii=False, indent=indent)`.
pub(crate) fn dumps(value: &Value, indent: Option<usize>) -> String {
    let mut out = String::new();
    write_json(value, indent, 0, &mut out);
    out
}

fn write_json(value: &Value, indent: Option<usize>, depth: usize, out: &mut String) {
    let (open, close, len) = match value {
        Value::Array(items) => ('[', ']', items.len()),
        Value::Object(map) => ('{', '}', map.len()),
        Value::Number(number) => return out.push_str(&number_text(number)),
        Value::Null | Value::Bool(_) | Value::String(_) => return out.push_str(&value.to_string()),
    };
    out.push(open);
    let line = |depth: usize, out: &mut String| {
        if let Some(width) = indent {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', width * depth));
        }
    };
    let separator = if indent.is_some() { "," } else { ", " };
    let mut first = true;
    let mut next = |out: &mut String| {
        if !std::mem::replace(&mut first, false) {
            out.push_str(separator);
        }
        line(depth + 1, out);
    };
    match value {
        Value::Array(items) => {
            for item in items {
                next(out);
                write_json(item, indent, depth + 1, out);
            }
        }
        Value::Object(map) => {
            for (key, item) in map {
                next(out);
                out.push_str(&Value::String(key.clone()).to_string());
                out.push_str(": ");
                write_json(item, indent, depth + 1, out);
            }
        }
        _ => {}
    }
    if len > 0 {
        line(depth, out);
    }
    out.push(close);
}

/// `str(value)`: what `{{ value }}` shows.
pub(crate) fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => repr(other),
    }
}

fn repr(value: &Value) -> String {
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Number(number) => number_text(number),
        Value::String(text) => quoted(text),
        Value::Array(items) => format!("[{}]", items.iter().map(repr).collect::<Vec<_>>().join(", ")),
        Value::Object(map) => {
            let entries: Vec<String> =
                map.iter().map(|(key, item)| format!("{}: {}", quoted(key), repr(item))).collect();
            format!("{{{}}}", entries.join(", "))
        }
    }
}

/// Python's `repr` of a text: single quotes unless the text holds only those.
fn quoted(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::from(quote);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\\' => out.push_str("\\\\"),
            c if c == quote => {
                out.push('\\');
                out.push(c);
            }
            c if c.is_control() => out.push_str(&format!("\\x{:02x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push(quote);
    out
}

/// Python's `repr` of a number: floats keep a point, and use an exponent below 1e-4 and from 1e16.
fn number_text(number: &serde_json::Number) -> String {
    let Some(value) = number.as_f64().filter(|_| number.is_f64()) else { return number.to_string() };
    let magnitude = value.abs();
    if value == 0.0 || (1e-4..1e16).contains(&magnitude) {
        format!("{value:?}")
    } else {
        let text = format!("{value:e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, digits) = match exponent.strip_prefix('-') {
            Some(digits) => ('-', digits),
            None => ('+', exponent),
        };
        format!("{mantissa}e{sign}{digits:0>2}")
    }
}
