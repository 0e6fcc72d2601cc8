//! Jinja2's globals, `raise_exception`, and formatting in Python's two styles.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use minijinja::formatting::{FormatStyle, format};
use minijinja::value::{Kwargs, Object, ObjectRepr, Rest, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, Value};

use super::arguments::Arguments;
use super::{containers, invalid, sequences, spelling, values};

/// Marks an error that the template raised itself.
pub(crate) const RAISED: &str = "\u{F0A14}raised:";

pub(super) fn add(environment: &mut Environment<'static>) {
    environment.remove_global("debug");
    environment.add_function("raise_exception", |message: Value| {
        let message = spelling::text(&message)?;
        Err::<Value, _>(Error::new(ErrorKind::InvalidOperation, format!("{RAISED}{message}")))
    });
    environment.add_function("dict", dict);
    environment.add_function("joiner", |separator: Option<String>| {
        let separator = separator.unwrap_or_else(|| ", ".to_owned());
        Value::from_object(Joiner { separator, calls: AtomicUsize::new(0) })
    });
    environment.add_function("cycler", |items: Rest<Value>| match items.is_empty() {
        true => Err(invalid("at least one item has to be provided")),
        false => Ok(Value::from_object(Cycler { items: items.to_vec(), at: Mutex::new(0) })),
    });
}

/// `dict(mapping_or_pairs, **entries)`.
fn dict(arguments: Rest<Value>, named: Kwargs) -> Result<Value, Error> {
    let mut entries: Vec<(Value, Value)> = Vec::new();
    if arguments.len() > 1 {
        return Err(invalid(format!("dict expected at most 1 argument, got {}", arguments.len())));
    }
    for source in arguments.iter() {
        if source.kind() == ValueKind::Map {
            entries.extend(containers::entries(source)?);
            continue;
        }
        for pair in sequences::items(source)? {
            match &sequences::items(&pair)?[..] {
                [key, value] => entries.push((key.clone(), value.clone())),
                _ => return Err(invalid("`dict` takes a dictionary, or a list of pairs")),
            }
        }
    }
    for name in named.args() {
        entries.push((name.into(), named.get(name)?));
    }
    let texts: Option<Vec<(String, Value)>> =
        entries.iter().map(|(key, value)| Some((key.as_str()?.to_owned(), value.clone()))).collect();
    Ok(match texts {
        Some(texts) => values::dict(texts),
        None => Value::from_pairs(entries),
    })
}

/// `joiner`: nothing when first called, then the separator.
#[derive(Debug)]
struct Joiner {
    separator: String,
    calls: AtomicUsize,
}

impl Object for Joiner {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call(self: &Arc<Self>, _: &mut State<'_, '_>, arguments: &[Value]) -> Result<Value, Error> {
        Arguments::new(arguments)?.none()?;
        let first = self.calls.fetch_add(1, Ordering::Relaxed) == 0;
        Ok(if first { "" } else { self.separator.as_str() }.into())
    }
}

/// `cycler`: its items in turn.
#[derive(Debug)]
struct Cycler {
    items: Vec<Value>,
    at: Mutex<usize>,
}

impl Object for Cycler {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let at = *self.at.lock().unwrap_or_else(PoisonError::into_inner);
        (key.as_str() == Some("current")).then(|| self.items[at].clone())
    }

    fn call_method(
        self: &Arc<Self>,
        _: &mut State<'_, '_>,
        method: &str,
        arguments: &[Value],
    ) -> Result<Value, Error> {
        Arguments::new(arguments)?.none()?;
        let mut at = self.at.lock().unwrap_or_else(PoisonError::into_inner);
        match method {
            "next" => {
                let item = self.items[*at].clone();
                *at = (*at + 1) % self.items.len();
                Ok(item)
            }
            "reset" => {
                *at = 0;
                Ok(Value::from(()))
            }
            _ => Err(Error::from(ErrorKind::UnknownMethod)),
        }
    }
}

/// `format % value`: a tuple holds several values, a dictionary named ones.
pub(super) fn percent(format_text: &str, value: &Value) -> Result<Value, Error> {
    let values = if value.is_tuple() { sequences::items(value)? } else { vec![value.clone()] };
    formatted(format_text, &values)
}

/// The filter `format`: the values are its arguments.
pub(super) fn percent_with(format_text: &str, arguments: &[Value]) -> Result<Value, Error> {
    formatted(format_text, arguments)
}

fn formatted(format_text: &str, values: &[Value]) -> Result<Value, Error> {
    // Floats are the one kind that the engine spells otherwise.
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
pub(super) fn str_format(format_text: &str, arguments: Arguments<'_>) -> Result<Value, Error> {
    format(FormatStyle::StrFormat, format_text, &arguments.into_all()).map(Value::from)
}
