//! Values of environment variables and flags, as trees.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;

use crate::dotenv::Variable;
use crate::node::{Content, Node, Origin, Source, Style};
use crate::problem::{Layer, Problem};
use crate::rules::{EnvName, EnvTarget, Rules};
use crate::schema::Schema;
use crate::suggest;
use crate::yaml;

/// A key and the node it is set to.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    pub(crate) key: String,
    /// Origin of the key: the name of the variable or the flag.
    pub(crate) key_origin: Origin,
    pub(crate) node: Node,
}

/// A text that is its own source.
pub(crate) fn origin_of(name: &str, text: &str, layer: Layer) -> Origin {
    let source = Arc::new(Source { name: PathBuf::from(name), text: text.into(), layer });
    Origin { source, span: 0..text.len() }
}

/// A value given as text: taken literally for a key of text, else parsed as YAML.
pub(crate) fn node_of(text: &str, name: &str, layer: Layer, schema: Option<Schema<'_>>) -> Node {
    let origin = origin_of(name, text, layer);
    let types = schema.map(Schema::types).unwrap_or_default();
    let as_text =
        || Node { content: Content::Scalar(yaml::scalar(text, Style::Quoted)), origin: origin.clone() };
    if types.iter().all(|name| *name == "string") && !types.is_empty() {
        return as_text();
    }
    if types.contains(&"null") {
        let node =
            Node { content: Content::Scalar(yaml::scalar(text, Style::Plain)), origin: origin.clone() };
        if node.is_null() {
            return node;
        }
    }
    match yaml::parse(&origin.source) {
        // For a key of text or other types, a value of no other type is text.
        (Some(node), problems) if problems.is_empty() => {
            if types.contains(&"string") && !crate::validate::matches_types(&node, &types) {
                as_text()
            } else {
                node
            }
        }
        _ => as_text(),
    }
}

/// The settings of one environment layer. Those of [`EnvTarget::Resolved`] are resolved with `merged`, the
/// values of all layers; without it they are left out.
pub(crate) fn settings<C>(
    variables: &[Variable],
    layer: Layer,
    rules: &Rules<C>,
    schema: Schema<'_>,
    merged: Option<&Value>,
    problems: &mut Vec<Problem>,
) -> Vec<Setting> {
    let mut settings = Vec::new();
    let systematic = format!("{}__", rules.prefix);
    let setting = |key: String, variable: &Variable| {
        let mut node = node_of(&variable.value, &variable.name, layer, schema.find(&key));
        let mut key_origin = origin_of(&variable.name, &variable.name, layer);
        if let Some(origin) = &variable.origin {
            node.move_to(origin);
            key_origin = origin.clone();
        }
        Setting { key, key_origin, node }
    };
    for EnvName { name, target } in rules.env_names {
        // The last one wins, as in a shell; an empty one counts as unset.
        let variable = variables.iter().rev().find(|variable| variable.name == *name);
        let Some(variable) = variable.filter(|variable| !variable.value.is_empty()) else { continue };
        let key = match (target, merged) {
            (EnvTarget::Key(key), _) => (*key).to_owned(),
            (EnvTarget::Resolved(resolve), Some(merged)) => resolve(merged),
            (EnvTarget::Resolved(_), None) => continue,
        };
        settings.push(setting(key, variable));
    }
    for variable in variables.iter().filter(|variable| !variable.value.is_empty()) {
        let Some(rest) = variable.name.strip_prefix(&systematic) else { continue };
        let key = rest.split("__").map(str::to_lowercase).collect::<Vec<_>>().join(".");
        match schema.find(&key) {
            Some(_) if !key.is_empty() => settings.push(setting(key, variable)),
            _ => problems.push(unknown(&key, variable, layer, rules.prefix, schema)),
        }
    }
    settings
}

/// The problem with a systematic name, without its value, which may be a secret.
fn unknown(key: &str, variable: &Variable, layer: Layer, prefix: &str, schema: Schema<'_>) -> Problem {
    let all = schema.paths("");
    let (section, last) = key.rsplit_once('.').unwrap_or(("", key));
    let siblings: Vec<&str> =
        schema.find(section).map(|s| s.properties().iter().map(|(n, _)| *n).collect()).unwrap_or_default();
    let near = suggest::key(section, last, &siblings, &all)
        .or_else(|| suggest::nearest(key, all.iter().map(String::as_str)).map(str::to_owned));
    let place = match &variable.origin {
        Some(origin) => origin.place(),
        None => origin_of(&variable.name, &variable.name, layer).place(),
    };
    Problem {
        place,
        layer: Some(layer),
        help: near.map(|near| format!("did you mean `{}`?", systematic_name(prefix, &near))),
        ..Problem::at(key, format!("the environment variable `{}` names no key", variable.name))
    }
}

/// The systematic environment name of a key.
pub(crate) fn systematic_name(prefix: &str, key: &str) -> String {
    format!("{prefix}__{}", key.to_uppercase().replace('.', "__"))
}

/// `KEY=VALUE` flags. Their places name the key only, since a value may be a secret.
pub(crate) fn flags(set: &[String], schema: Schema<'_>, problems: &mut Vec<Problem>) -> Vec<Setting> {
    let mut settings = Vec::new();
    for flag in set {
        match flag.split_once('=') {
            Some((key, value)) if key.split('.').all(|part| !part.trim().is_empty()) => {
                let key = key.trim();
                let name = format!("--set {key}");
                settings.push(Setting {
                    key: key.to_owned(),
                    key_origin: origin_of(&name, key, Layer::Flag),
                    node: node_of(value, &name, Layer::Flag, schema.find(key)),
                });
            }
            _ => {
                let given = flag.split_once('=').map_or(flag.as_str(), |(key, _)| key);
                problems.push(Problem {
                    layer: Some(Layer::Flag),
                    ..Problem::at("", format!("`--set {given}` is not of the form KEY=VALUE"))
                        .help("for example `--set training.seed=7`")
                });
            }
        }
    }
    settings
}
