//! YAML out: block style for sections, JSON's notation for values, which is YAML too.
//!
//! Written by hand because comments, the spelling of floats and the original `${VAR}` texts must be controlled.

use std::io::Write;
use std::path::Path;

use serde_json::{Map, Value};

use crate::node::{Content, Node};

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
        other => other.to_string(),
    }
}

/// A float that YAML 1.1 readers take for one too: with a point, also before an exponent.
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

/// A key, quoted where it has to be.
pub(crate) fn name(key: &str) -> String {
    let plain = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
    if plain && !key.starts_with(|c: char| c.is_ascii_digit() || c == '-') {
        key.to_owned()
    } else {
        Value::String(key.to_owned()).to_string()
    }
}

/// The tree as YAML: everything, or what differs from `defaults`. Interpolated texts are written as they were;
/// secrets that were not are left out, and a comment says so.
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
            if default.flatten().is_some_and(|default| same(default, &json)) {
                continue;
            }
            let raw = match &child.content {
                Content::Scalar(scalar) => scalar.raw.clone(),
                _ => None,
            };
            let line = match raw {
                Some(raw) => format!("{}: {}", name(&key.name), Value::String(raw)),
                None if (self.is_secret)(&path) && !json.is_null() => {
                    format!("# {}: a secret, not written; set it in the environment", key.name)
                }
                None => format!("{}: {}", name(&key.name), value(&json)),
            };
            self.out.push_str(&format!("{indent}{line}\n"));
        }
    }
}

/// Equal as values: 1 and 1.0 are.
fn same(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

/// Writes `text` to `path` so that a reader sees the old file or the new one, never a part.
///
/// # Errors
/// What the system says.
pub(crate) fn write_atomically(path: &Path, text: &str) -> std::io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    if let Ok(metadata) = std::fs::metadata(path) {
        file.as_file().set_permissions(metadata.permissions())?;
    }
    file.persist(path)?;
    std::fs::File::open(directory)?.sync_all()
}
