//! Jinja2's globals, and `raise_exception`.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use minijinja::value::{Kwargs, Object, ObjectRepr, Rest, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, Value};

use crate::template::jinja::dict;
use crate::template::jinja::values::arguments::Arguments;
use crate::template::jinja::values::error::invalid;
use crate::template::jinja::values::iterate::{entries, items};
use crate::template::jinja::values::spelling;

/// Marks an error that the template raised itself.
pub(crate) const RAISED: &str = "\u{F0A14}raised:";

pub(crate) fn add(environment: &mut Environment<'static>) {
    environment.remove_global("debug");
    environment.add_function("raise_exception", |message: Value| {
        let message = spelling::text(&message)?;
        Err::<Value, _>(Error::new(ErrorKind::InvalidOperation, format!("{RAISED}{message}")))
    });
    environment.add_function("dict", dict_of);
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
fn dict_of(arguments: Rest<Value>, named: Kwargs) -> Result<Value, Error> {
    let mut found: Vec<(Value, Value)> = Vec::new();
    if arguments.len() > 1 {
        return Err(invalid(format!("dict expected at most 1 argument, got {}", arguments.len())));
    }
    for source in arguments.iter() {
        if source.kind() == ValueKind::Map {
            found.extend(entries(source)?);
            continue;
        }
        for pair in items(source)? {
            match &items(&pair)?[..] {
                [key, value] => found.push((key.clone(), value.clone())),
                _ => return Err(invalid("`dict` takes a dictionary, or a list of pairs")),
            }
        }
    }
    for name in named.args() {
        found.push((name.into(), named.get(name)?));
    }
    let texts: Option<Vec<(String, Value)>> =
        found.iter().map(|(key, value)| Some((key.as_str()?.to_owned(), value.clone()))).collect();
    Ok(match texts {
        Some(texts) => dict::dict(texts),
        None => Value::from_pairs(found),
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
