//! Values from the environment and from flags, as trees.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;

use crate::node::{Content, Node, Origin, Source, Style};
use crate::problem::{Layer, Problem};
use crate::rules::{EnvName, EnvTarget, Rules};
use crate::schema::Schema;
use crate::suggest;
use crate::yaml;

/// A key and the node it is set to.
pub(crate) type Setting = (String, Node);

/// A value given as text: as it is for a key that takes text, else read as YAML.
pub(crate) fn node_of(text: &str, name: &str, layer: Layer, schema: Option<Schema<'_>>) -> Node {
    let source = Arc::new(Source { name: PathBuf::from(name), text: text.into(), layer });
    let types = schema.map(Schema::types).unwrap_or_default();
    let origin = Origin { source: Arc::clone(&source), span: 0..text.len() };
    let as_text =
        |style| Node { content: Content::Scalar(yaml::scalar(text, style)), origin: origin.clone() };
    if types.iter().all(|name| *name == "string") && !types.is_empty() {
        return as_text(Style::Quoted);
    }
    if types.contains(&"string") && types.contains(&"null") {
        let node = as_text(Style::Plain);
        return if node.is_null() { node } else { as_text(Style::Quoted) };
    }
    match yaml::parse(&source) {
        Ok(node) if !text.trim().is_empty() => node,
        _ => as_text(Style::Quoted),
    }
}

/// The settings of one environment layer. Those of [`EnvTarget::Resolved`] are looked up in `merged`, the values
/// of all layers; without it they are left out.
pub(crate) fn settings<C>(
    variables: &[(String, String)],
    layer: Layer,
    rules: &Rules<C>,
    schema: Schema<'_>,
    merged: Option<&Value>,
    problems: &mut Vec<Problem>,
) -> Vec<Setting> {
    let mut settings = Vec::new();
    let systematic = format!("{}__", rules.prefix);
    for EnvName { name, target } in rules.env_names {
        // The last one counts, as in a shell; an empty one counts as unset.
        let value = variables.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value);
        let Some(value) = value.filter(|value| !value.is_empty()) else { continue };
        let key = match (target, merged) {
            (EnvTarget::Key(key), _) => (*key).to_owned(),
            (EnvTarget::Resolved(resolve), Some(merged)) => resolve(merged),
            (EnvTarget::Resolved(_), None) => continue,
        };
        settings.push((key.clone(), node_of(value, name, layer, schema.find(&key))));
    }
    for (name, value) in variables {
        let Some(rest) = name.strip_prefix(&systematic) else { continue };
        let key = rest.split("__").map(str::to_lowercase).collect::<Vec<_>>().join(".");
        match schema.find(&key) {
            Some(found) => settings.push((key, node_of(value, name, layer, Some(found)))),
            None => problems.push(unknown(&key, name, value, layer, rules.prefix, schema)),
        }
    }
    settings
}

fn unknown(key: &str, name: &str, value: &str, layer: Layer, prefix: &str, schema: Schema<'_>) -> Problem {
    let all: Vec<String> = schema.leaves("").into_iter().map(|(path, _)| path).collect();
    let (section, last) = key.rsplit_once('.').unwrap_or(("", key));
    let siblings: Vec<&str> =
        schema.find(section).map(|s| s.properties().iter().map(|(n, _)| *n).collect()).unwrap_or_default();
    let near = suggest::key(section, last, &siblings, &all)
        .or_else(|| suggest::nearest(key, all.iter().map(String::as_str)).map(str::to_owned));
    let node = node_of(value, name, layer, None);
    Problem {
        place: node.origin.place(),
        layer: Some(layer),
        help: near.map(|near| format!("did you mean `{}`?", systematic_name(prefix, &near))),
        ..Problem::at(key, format!("the environment variable `{name}` names no key"))
    }
}

/// The systematic environment name of a key.
pub(crate) fn systematic_name(prefix: &str, key: &str) -> String {
    format!("{prefix}__{}", key.to_uppercase().replace('.', "__"))
}

/// `KEY=VALUE` flags.
pub(crate) fn flags(set: &[String], schema: Schema<'_>, problems: &mut Vec<Problem>) -> Vec<Setting> {
    let mut settings = Vec::new();
    for flag in set {
        let name = format!("--set {flag}");
        match flag.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() => {
                let key = key.trim();
                settings.push((key.to_owned(), node_of(value, &name, Layer::Flag, schema.find(key))));
            }
            _ => problems.push(Problem {
                layer: Some(Layer::Flag),
                ..Problem::at("", format!("`--set {flag}` is not of the form KEY=VALUE"))
                    .help("for example `--set training.seed=7`")
            }),
        }
    }
    settings
}
