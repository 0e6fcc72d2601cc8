//! Writes YAML: block style for sections, JSON's notation, which is YAML too, for values.
//!
//! Written by hand because comments, the spelling of floats and the original `${VAR}` texts must be controlled.

use serde_json::{Map, Value};

use crate::node::{Content, Node, Scalar, Style};

/// What [`crate::ConfigManager::save`] writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaveMode {
    /// What differs from the defaults.
    Changed,
    /// Every key.
    All,
}

/// One value in flow style.
pub(crate) fn value(value: &Value) -> String {
    match value {
        Value::Number(number) if number.is_f64() => float(number.as_f64().unwrap_or_default()),
        Value::Array(items) => format!("[{}]", items.iter().map(self::value).collect::<Vec<_>>().join(", ")),
        Value::Object(map) => {
            let entries: Vec<String> =
                map.iter().map(|(key, item)| format!("{}: {}", name(key), self::value(item))).collect();
            format!("{{{}}}", entries.join(", "))
        }
        // An unescaped `${` would be interpolated when read again.
        Value::String(text) => quoted(&text.replace("${", "$${")),
        other => other.to_string(),
    }
}

/// A text in double quotes. JSON's escapes are YAML's, but JSON leaves some characters unescaped that YAML
/// treats as line breaks or does not allow.
fn quoted(text: &str) -> String {
    let mut out = String::new();
    for c in Value::String(text.to_owned()).to_string().chars() {
        match c {
            '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out
}

/// A float that YAML 1.1 readers accept too: with a point, also before an exponent.
fn float(value: f64) -> String {
    if value != 0.0 && !(1e-4..1e15).contains(&value.abs()) {
        let text = format!("{value:e}");
        match text.split_once('e') {
            Some((mantissa, exponent)) if !mantissa.contains('.') => format!("{mantissa}.0e{exponent}"),
            _ => text,
        }
    } else {
        format!("{value:?}")
    }
}

/// A key, quoted if necessary.
pub(crate) fn name(key: &str) -> String {
    let plain = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
    if plain && !key.starts_with(|c: char| c.is_ascii_digit() || c == '-') {
        key.to_owned()
    } else {
        quoted(key)
    }
}

/// The tree as YAML: everything, or what differs from `defaults`. Interpolated texts are written in their
/// original form; other secrets are replaced by a comment.
pub(crate) fn tree(node: &Node, defaults: Option<&Value>, is_secret: &dyn Fn(&str) -> bool) -> String {
    let mut writer = Writer { is_secret, out: String::new() };
    writer.map(node, defaults, "", 0);
    if writer.out.is_empty() { "{}\n".to_owned() } else { writer.out }
}

struct Writer<'a> {
    is_secret: &'a dyn Fn(&str) -> bool,
    out: String,
}

impl Writer<'_> {
    fn map(&mut self, node: &Node, defaults: Option<&Value>, path: &str, depth: usize) {
        let Content::Map(entries) = &node.content else { return };
        let empty = Value::Object(Map::new());
        for (key, child) in entries {
            let path = if path.is_empty() { key.name.clone() } else { format!("{path}.{}", key.name) };
            let default = defaults.map(|defaults| defaults.get(&key.name));
            let indent = "  ".repeat(depth);
            if let Content::Map(children) = &child.content
                && !children.is_empty()
            {
                let before = self.out.len();
                self.out.push_str(&format!("{indent}{}:\n", name(&key.name)));
                let header = self.out.len();
                self.map(child, default.map(|default| default.unwrap_or(&empty)), &path, depth + 1);
                if self.out.len() == header {
                    self.out.truncate(before);
                }
                continue;
            }
            let json = child.to_json();
            let raw = has_raw(child);
            if !raw && default.flatten().is_some_and(|default| same(default, &json)) {
                continue;
            }
            if (self.is_secret)(&path) && !json.is_null() && !is_reference(child) {
                let line = format!("# {}: a secret, not written; set it in the environment", name(&key.name));
                self.out.push_str(&format!("{indent}{line}\n"));
                continue;
            }
            self.out.push_str(&format!("{indent}{}:", name(&key.name)));
            self.value(child, depth + 1);
        }
    }

    /// What follows `key:` or `-`, with the line break. In block style when it holds a `${...}`, which cannot
    /// be unquoted in flow style.
    fn value(&mut self, node: &Node, depth: usize) {
        let indent = "  ".repeat(depth);
        match &node.content {
            Content::Scalar(Scalar { raw: Some(raw), style, .. }) => {
                let text = match style {
                    // Quotes would change the type of the result.
                    Style::Plain if !raw.contains(['\n', '\r']) => raw.clone(),
                    _ => quoted(raw),
                };
                self.out.push_str(&format!(" {text}\n"));
            }
            Content::List(items) if has_raw(node) => {
                self.out.push('\n');
                for item in items {
                    self.out.push_str(&format!("{indent}-"));
                    self.value(item, depth + 1);
                }
            }
            Content::Map(entries) if has_raw(node) => {
                self.out.push('\n');
                for (key, item) in entries {
                    self.out.push_str(&format!("{indent}{}:", name(&key.name)));
                    self.value(item, depth + 1);
                }
            }
            _ => self.out.push_str(&format!(" {}\n", value(&node.to_json()))),
        }
    }
}

/// Whether `${...}` was interpolated in it or below.
fn has_raw(node: &Node) -> bool {
    match &node.content {
        Content::Scalar(scalar) => scalar.raw.is_some(),
        Content::List(items) => items.iter().any(has_raw),
        Content::Map(entries) => entries.iter().any(|(_, node)| has_raw(node)),
    }
}

/// Whether it is a single `${NAME}`, so that writing it reveals nothing.
fn is_reference(node: &Node) -> bool {
    let Content::Scalar(Scalar { raw: Some(raw), .. }) = &node.content else { return false };
    let name = raw.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
    name.is_some_and(|name| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
}

/// Equality of values: 1 equals 1.0.
pub(crate) fn same(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}
