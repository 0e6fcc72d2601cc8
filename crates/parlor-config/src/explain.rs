//! Explains a key: its value, where it came from, its documentation, type and range.

use std::path::PathBuf;

use serde::Serialize;
use serde_json::Value;

use crate::environment::systematic_name;
use crate::layers;
use crate::node::{Node, join};
use crate::problem::{Layer, Problem};
use crate::rules::{EnvTarget, Rules};
use crate::schema::Schema;
use crate::suggest;
use crate::validate::type_name;

/// Everything about a key.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    /// The key.
    pub key: String,
    /// Its value, as written; `***` for a secret.
    pub value: Value,
    /// The layer that set it.
    pub layer: Layer,
    /// The file, variable or flag that set it; `None` for a default.
    pub file: Option<PathBuf>,
    /// The line in a configuration file or in `.env`.
    pub line: Option<usize>,
    /// Its default.
    pub default: Value,
    /// Its documentation.
    pub description: String,
    /// Its type, in words.
    pub kind: String,
    /// Its range, or the allowed values.
    pub range: Option<String>,
    /// Environment variables that set it.
    pub environment: Vec<String>,
}

/// Explains the key `key`.
///
/// # Errors
/// An unknown key, with the nearest known one.
pub(crate) fn explain<C>(
    key: &str,
    tree: &Node,
    defaults: &Value,
    schema: Schema<'_>,
    rules: &Rules<C>,
) -> Result<Explanation, Box<Problem>> {
    let Some(found) = schema.find(key) else { return Err(Box::new(unknown(key, schema))) };
    let node = tree.find(key);
    let place = node.and_then(|node| node.origin.place());
    let layer = node.map_or(Layer::Default, |node| node.origin.layer());
    // The key of some environment names depends on other values, in canonical spelling.
    let canonical = layers::canonical(tree, rules).to_json();
    let plain = rules.env_names.iter().filter(|name| match name.target {
        EnvTarget::Key(target) => target == key,
        EnvTarget::Resolved(resolve) => resolve(&canonical) == key,
    });
    let pointer: String = key.split('.').map(|part| format!("/{part}")).collect();
    let mut value = node.map(Node::to_json).unwrap_or_default();
    hide(&mut value, key, rules);
    let mut default = defaults.pointer(&pointer).cloned().unwrap_or_default();
    hide(&mut default, key, rules);
    Ok(Explanation {
        key: key.to_owned(),
        value,
        layer,
        line: place.as_ref().filter(|_| matches!(layer, Layer::File | Layer::DotEnv)).map(|place| place.line),
        file: place.map(|place| place.file),
        default,
        description: found.description().unwrap_or_default().to_owned(),
        kind: kind(found),
        range: allowed(found, key, rules),
        environment: plain
            .map(|name| name.name.to_owned())
            .chain([systematic_name(rules.prefix, key)])
            .collect(),
    })
}

/// Replaces secrets at and below `path`.
pub(crate) fn hide<C>(value: &mut Value, path: &str, rules: &Rules<C>) {
    if rules.is_secret(path) && !value.is_null() {
        *value = "***".into();
    } else if let Value::Object(map) = value {
        for (name, value) in map {
            hide(value, &join(path, name), rules);
        }
    }
}

/// The problem with a key that does not exist.
pub(crate) fn unknown(key: &str, schema: Schema<'_>) -> Problem {
    let all = schema.paths("");
    let (section, last) = key.rsplit_once('.').unwrap_or(("", key));
    let near = suggest::nearest(key, all.iter().map(String::as_str))
        .map(str::to_owned)
        .or_else(|| suggest::key(section, last, &[], &all));
    let problem = Problem::at(key, "unknown key");
    match near {
        Some(near) => problem.help(format!("did you mean `{near}`?")),
        None => problem.help("`parlor config show --all` lists every key"),
    }
}

/// The type of a value, in words.
pub(crate) fn kind(schema: Schema<'_>) -> String {
    let types: Vec<&str> = schema.types().into_iter().filter(|name| *name != "null").map(type_name).collect();
    let optional = if schema.types().contains(&"null") { ", or null" } else { "" };
    if types.is_empty() { "anything".to_owned() } else { format!("{}{optional}", types.join(" or ")) }
}

/// The range or the allowed values, in words.
pub(crate) fn allowed<C>(schema: Schema<'_>, key: &str, rules: &Rules<C>) -> Option<String> {
    let choices = schema.choices();
    if choices.is_empty() {
        return schema.range();
    }
    let aliases: Vec<_> = rules.aliases.iter().filter(|alias| alias.key == key).collect();
    // The schema may list the aliases too.
    let canonical =
        choices.iter().map(|(name, _)| *name).filter(|name| aliases.iter().all(|alias| alias.alias != *name));
    let notes = aliases.iter().map(|alias| format!("{} (= {})", alias.alias, alias.canonical));
    Some(canonical.map(str::to_owned).chain(notes).collect::<Vec<_>>().join(", "))
}
