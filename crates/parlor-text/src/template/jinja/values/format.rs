//! Python's two styles of formatting: `format % values` and `str.format`.

use minijinja::formatting::{FormatStyle, format};
use minijinja::value::ValueKind;
use minijinja::{Error, Value};

use super::arguments::Arguments;
use super::error::invalid;
use super::iterate::items;
use super::spelling;

/// `format % value`: a tuple holds several values, a dictionary named ones.
pub(crate) fn percent(format_text: &str, value: &Value) -> Result<Value, Error> {
    let values = if value.is_tuple() { items(value)? } else { vec![value.clone()] };
    formatted(format_text, &values)
}

/// The filter `format`: the values are its arguments.
pub(crate) fn percent_with(format_text: &str, arguments: &[Value]) -> Result<Value, Error> {
    formatted(format_text, arguments)
}

fn formatted(format_text: &str, values: &[Value]) -> Result<Value, Error> {
    // Floats are the only kind that the engine writes differently.
    let conversions: Vec<char> = conversions(format_text);
    let named = values.first().is_some_and(|value| value.kind() == ValueKind::Map);
    if !named && conversions.len() != values.len() {
        return Err(invalid(match conversions.len() < values.len() {
            true => "not all arguments converted during string formatting",
            false => "not enough arguments for format string",
        }));
    }
    let mut spelled = Vec::with_capacity(values.len());
    for (index, value) in values.iter().enumerate() {
        let as_text = matches!(conversions.get(index), Some('s')) && !named && value.as_str().is_none();
        spelled.push(if as_text { spelling::text(value)?.into() } else { value.clone() });
    }
    format(FormatStyle::Printf, format_text, &spelled).map(Value::from)
}

/// The conversions of a format, `%%` left out; `*` takes a value of its own.
fn conversions(format_text: &str) -> Vec<char> {
    let mut found = Vec::new();
    let mut characters = format_text.chars();
    while let Some(c) = characters.next() {
        if c != '%' {
            continue;
        }
        let mut key = false;
        for c in characters.by_ref() {
            match c {
                '(' => key = true,
                ')' => key = false,
                _ if key => {}
                '*' => found.push('*'),
                '#' | '0'..='9' | '-' | ' ' | '+' | '.' | 'h' | 'l' | 'L' => {}
                '%' => break,
                conversion => {
                    found.push(conversion);
                    break;
                }
            }
        }
    }
    found
}

/// `str.format`.
pub(crate) fn str_format(format_text: &str, arguments: Arguments<'_>) -> Result<Value, Error> {
    format(FormatStyle::StrFormat, format_text, &arguments.into_all()).map(Value::from)
}
