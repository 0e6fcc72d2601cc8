//! Generates documents from the structs: a JSON Schema, a Markdown reference, a commented YAML file.

use serde_json::{Value, json};

use crate::configuration::Configuration;
use crate::emit;
use crate::environment::systematic_name;
use crate::explain::{allowed, kind};
use crate::layers::defaults;
use crate::rules::{Alias, EnvTarget, Rules};
use crate::schema::Schema;

/// The JSON Schema of `C`, aliases listed among the values of their keys.
pub fn json_schema<C: Configuration>(rules: &Rules<C>) -> Value {
    let mut schema = serde_json::to_value(schemars::schema_for!(C)).unwrap_or_default();
    for alias in rules.aliases {
        let mut pointer = String::new();
        for part in alias.key.split('.') {
            pointer.push_str(&format!("/properties/{part}"));
            pointer = resolved(&schema, pointer);
        }
        add_alias(&mut schema, &pointer, alias);
    }
    schema
}

/// Lists `alias` among the values at `pointer`, or of the alternatives there (`Option` of an enum).
fn add_alias(schema: &mut Value, pointer: &str, alias: &Alias) {
    let alternatives = schema.pointer(pointer).and_then(|at| at.get("anyOf")).and_then(Value::as_array);
    for index in 0..alternatives.map_or(0, Vec::len) {
        let pointer = resolved(schema, format!("{pointer}/anyOf/{index}"));
        add_alias(schema, &pointer, alias);
    }
    let note = json!({
        "const": alias.alias,
        "type": "string",
        "description": format!("Another name of `{}`.", alias.canonical),
    });
    let Some(Value::Object(target)) = schema.pointer_mut(pointer) else { return };
    // Two keys of one type share its values.
    if let Some(Value::Array(choices)) = target.get_mut("oneOf") {
        if choices.iter().all(|choice| choice.get("const") != note.get("const")) {
            choices.push(note);
        }
    } else if let Some(Value::Array(choices)) = target.get_mut("enum")
        && !choices.contains(&alias.alias.into())
    {
        choices.push(alias.alias.into());
    }
}

/// Follows a `$ref` at `pointer`.
fn resolved(schema: &Value, pointer: String) -> String {
    let reference = schema.pointer(&pointer).and_then(|at| at.get("$ref")).and_then(Value::as_str);
    reference.and_then(|reference| reference.strip_prefix('#')).map_or(pointer, str::to_owned)
}

/// Every key with type, default, range, documentation and environment name, a table per section.
pub fn markdown_reference<C: Configuration>(rules: &Rules<C>) -> String {
    let (schema, defaults) = (schema_value::<C>(), defaults::<C>());
    let mut out = String::new();
    section(Schema::root(&schema), &defaults, "", rules, &mut out);
    out
}

fn schema_value<C: Configuration>() -> Value {
    serde_json::to_value(schemars::schema_for!(C)).unwrap_or_default()
}

fn section<C>(schema: Schema<'_>, defaults: &Value, path: &str, rules: &Rules<C>, out: &mut String) {
    let (mut rows, mut sections) = (Vec::new(), Vec::new());
    for (name, child) in schema.properties() {
        let key = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        let default = defaults.get(name).cloned().unwrap_or_default();
        if child.properties().is_empty() {
            rows.push(row(&key, child, &default, rules));
        } else {
            sections.push((key, child, default));
        }
    }
    if !path.is_empty() {
        out.push_str(&format!(
            "\n## `{path}`\n\n{}\n",
            schema.description().unwrap_or_default().replace('\n', " ")
        ));
    }
    if !rows.is_empty() {
        out.push_str("\n| key | takes | default | meaning | environment |\n|---|---|---|---|---|\n");
        out.extend(rows);
    }
    for (key, child, default) in sections {
        section(child, &default, &key, rules, out);
    }
}

fn row<C>(key: &str, schema: Schema<'_>, default: &Value, rules: &Rules<C>) -> String {
    let takes = allowed(schema, key, rules)
        .map_or_else(|| kind(schema), |range| format!("{}: {range}", kind(schema)));
    let plain =
        rules.env_names.iter().filter(|name| matches!(name.target, EnvTarget::Key(target) if target == key));
    let environment: Vec<String> = plain
        .map(|name| format!("`{}`", name.name))
        .chain([format!("`{}`", systematic_name(rules.prefix, key))])
        .collect();
    let cell = |text: &str| text.replace('\n', " ").replace('|', "\\|");
    format!(
        "| `{key}` | {} | `{}` | {} | {} |\n",
        cell(&takes),
        cell(&emit::value(default)),
        cell(schema.description().unwrap_or_default()),
        environment.join(", ")
    )
}

/// A YAML file with every key, its documentation above it and its default; `values` replaces some defaults
/// (`("training.training_type", json!("sft"))`).
pub fn commented_yaml<C: Configuration>(values: &[(&str, Value)]) -> String {
    let (schema, mut defaults) = (schema_value::<C>(), defaults::<C>());
    for (key, value) in values {
        let pointer: String = key.split('.').map(|part| format!("/{part}")).collect();
        if let Some(target) = defaults.pointer_mut(&pointer) {
            *target = value.clone();
        }
    }
    let mut out = String::new();
    yaml_section(Schema::root(&schema), &defaults, 0, &mut out);
    out
}

fn yaml_section(schema: Schema<'_>, defaults: &Value, depth: usize, out: &mut String) {
    let indent = "  ".repeat(depth);
    let mut after_section = false;
    for (name, child) in schema.properties() {
        let default = defaults.get(name).cloned().unwrap_or_default();
        let is_section = !child.properties().is_empty() && default.is_object();
        if (is_section || after_section) && depth == 0 && !out.is_empty() {
            out.push('\n');
        }
        after_section = is_section;
        for line in wrapped(child.description().unwrap_or_default(), 100 - 2 * depth) {
            out.push_str(&format!("{indent}# {line}\n"));
        }
        let choices: Vec<&str> = child.choices().iter().map(|(name, _)| *name).collect();
        let range = if choices.is_empty() { child.range() } else { Some(choices.join(", ")) };
        if let (Some(range), false) = (range, is_section) {
            for line in wrapped(&format!("({range})"), 100 - 2 * depth) {
                out.push_str(&format!("{indent}# {line}\n"));
            }
        }
        if is_section {
            out.push_str(&format!("{indent}{name}:\n"));
            yaml_section(child, &default, depth + 1, out);
        } else {
            out.push_str(&format!("{indent}{name}: {}\n", emit::value(&default)));
        }
    }
}

/// `text` in lines of at most `width` characters, broken at spaces.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
