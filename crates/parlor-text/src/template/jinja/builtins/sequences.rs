//! Filters that sort, group or join the items of a value.

use std::cmp::Ordering;

use minijinja::value::{Tuple, ValueKind};
use minijinja::{Error, Value};

use crate::template::jinja::values::arguments::{Arguments, flag, required};
use crate::template::jinja::values::compare::compare;
use crate::template::jinja::values::error::invalid;
use crate::template::jinja::values::iterate::{entries, items, pairs};
use crate::template::jinja::values::spelling;

/// `attribute` of a value: a path of names and numbers, separated by points.
fn attribute(value: &Value, path: &Value, default: Option<&Value>) -> Result<Value, Error> {
    let mut found = value.clone();
    let parts: Vec<Value> = match path.as_str() {
        Some(path) => path
            .split('.')
            .map(|part| part.parse::<i64>().map_or_else(|_| Value::from(part), Value::from))
            .collect(),
        None => vec![path.clone()],
    };
    for part in parts {
        found = found.get_item(&part)?;
        if let Some(default) = default.filter(|_| found.is_undefined()) {
            found = default.clone();
        }
    }
    Ok(found)
}

/// How values are compared: by an attribute or as a whole, and texts with or without case.
struct Key {
    attribute: Option<Value>,
    default: Option<Value>,
    case_sensitive: bool,
}

impl Key {
    fn of(&self, value: &Value) -> Result<Value, Error> {
        let found = match &self.attribute {
            Some(path) => attribute(value, path, self.default.as_ref())?,
            None => value.clone(),
        };
        Ok(match found.as_str() {
            Some(text) if !self.case_sensitive => Value::from(text.to_lowercase()),
            _ => found,
        })
    }
}

/// A comma separates several attributes, as in `sort(attribute="age,name")`.
fn keys(path: Option<Value>, case_sensitive: bool) -> Vec<Key> {
    let key = |attribute| Key { attribute, default: None, case_sensitive };
    match path.filter(|path| !path.is_none()) {
        None => vec![key(None)],
        Some(path) => match path.as_str() {
            Some(path) => path.split(',').map(|part| key(Some(Value::from(part)))).collect(),
            None => vec![key(Some(path))],
        },
    }
}

/// A stable sort by an order that fails for some values.
fn sorted(mut entries: Vec<(Vec<Value>, Value)>, reverse: bool) -> Result<Vec<(Vec<Value>, Value)>, Error> {
    let mut failure = None;
    entries.sort_by(|(a, _), (b, _)| {
        for (a, b) in a.iter().zip(b) {
            if a == b {
                continue;
            }
            let order = compare(a, b).unwrap_or_else(|error| {
                failure.get_or_insert(error);
                None
            });
            let order = order.unwrap_or(Ordering::Equal);
            return if reverse { order.reverse() } else { order };
        }
        Ordering::Equal
    });
    match failure {
        Some(error) => Err(error),
        None => Ok(entries),
    }
}

fn keyed(value: &Value, keys: &[Key]) -> Result<Vec<(Vec<Value>, Value)>, Error> {
    let key = |item: Value| {
        let key: Result<Vec<Value>, Error> = keys.iter().map(|key| key.of(&item)).collect();
        Ok((key?, item))
    };
    items(value)?.into_iter().map(key).collect()
}

fn values(entries: Vec<(Vec<Value>, Value)>) -> Value {
    Value::from(entries.into_iter().map(|(_, item)| item).collect::<Vec<_>>())
}

/// `sort(value, reverse=False, case_sensitive=False, attribute=None)`.
pub(crate) fn sort(value: &Value, arguments: &[Value]) -> Result<Value, Error> {
    let [reverse, case, attribute] =
        Arguments::new(arguments)?.bind(["reverse", "case_sensitive", "attribute"])?;
    let keys = keys(attribute, flag(case.as_ref(), false));
    Ok(values(sorted(keyed(value, &keys)?, flag(reverse.as_ref(), false))?))
}

/// `unique(value, case_sensitive=False, attribute=None)`.
pub(crate) fn unique(value: &Value, arguments: &[Value]) -> Result<Value, Error> {
    let [case, attribute] = Arguments::new(arguments)?.bind(["case_sensitive", "attribute"])?;
    let keys = keys(attribute, flag(case.as_ref(), false));
    let mut seen: Vec<Vec<Value>> = Vec::new();
    let mut kept = Vec::new();
    for (key, item) in keyed(value, &keys)? {
        if !seen.contains(&key) {
            seen.push(key);
            kept.push(item);
        }
    }
    Ok(Value::from(kept))
}

/// `min` and `max(value, case_sensitive=False, attribute=None)`; of nothing, undefined.
pub(crate) fn extreme(value: &Value, arguments: &[Value], wanted: Ordering) -> Result<Value, Error> {
    let [case, attribute] = Arguments::new(arguments)?.bind(["case_sensitive", "attribute"])?;
    let key = Key { attribute, default: None, case_sensitive: flag(case.as_ref(), false) };
    let mut best: Option<(Value, Value)> = None;
    for item in items(value)? {
        let this = key.of(&item)?;
        let better = match &best {
            None => true,
            Some((best, _)) => compare(&this, best)? == Some(wanted),
        };
        if better {
            best = Some((this, item));
        }
    }
    Ok(best.map_or(Value::UNDEFINED, |(_, item)| item))
}

/// `groupby(value, attribute, default=None, case_sensitive=False)`: pairs of the grouper and its items.
pub(crate) fn group_by(value: &Value, arguments: &[Value]) -> Result<Value, Error> {
    let [path, default, case] =
        Arguments::new(arguments)?.bind(["attribute", "default", "case_sensitive"])?;
    let path = required(path, "attribute")?;
    let case_sensitive = flag(case.as_ref(), false);
    let key = Key { attribute: Some(path.clone()), default: default.clone(), case_sensitive };
    let mut groups: Vec<(Value, Vec<Value>)> = Vec::new();
    let mut last: Option<Value> = None;
    for (mut this, item) in sorted(keyed(value, &[key])?, false)? {
        let this = this.pop().unwrap_or_default();
        match groups.last_mut() {
            Some((_, members)) if last.as_ref() == Some(&this) => members.push(item),
            _ => groups.push((attribute(&item, &path, default.as_ref())?, vec![item])),
        }
        last = Some(this);
    }
    let groups = groups.into_iter().map(|(grouper, members)| (grouper, Value::from(members))).collect();
    Ok(pairs(groups))
}

/// `dictsort(value, case_sensitive=False, by='key', reverse=False)`.
pub(crate) fn dict_sort(value: &Value, arguments: &[Value]) -> Result<Value, Error> {
    let [case, by, reverse] = Arguments::new(arguments)?.bind(["case_sensitive", "by", "reverse"])?;
    let key = Key { attribute: None, default: None, case_sensitive: flag(case.as_ref(), false) };
    let by_value = match by.as_ref().and_then(Value::as_str) {
        None | Some("key") => false,
        Some("value") => true,
        Some(_) => return Err(invalid("you can only sort by either \"key\" or \"value\"")),
    };
    if value.kind() != ValueKind::Map {
        return Err(invalid(format!("a dictionary was expected, not {}", value.kind())));
    }
    let mut keyed = Vec::new();
    for (name, item) in entries(value)? {
        let by = key.of(if by_value { &item } else { &name })?;
        keyed.push((vec![by], Value::from(Tuple::from(vec![name, item]))));
    }
    Ok(values(sorted(keyed, flag(reverse.as_ref(), false))?))
}

/// `join(value, d='', attribute=None)`: everything is a text in the end.
pub(crate) fn join(value: &Value, arguments: &[Value]) -> Result<Value, Error> {
    let [separator, path] = Arguments::new(arguments)?.bind(["d", "attribute"])?;
    let separator = separator.map_or(Ok(String::new()), |separator| spelling::text(&separator))?;
    let mut texts = Vec::new();
    for item in items(value)? {
        let item = match &path {
            Some(path) if !path.is_none() => attribute(&item, path, None)?,
            _ => item,
        };
        texts.push(spelling::text(&item)?);
    }
    Ok(texts.join(&separator).into())
}
