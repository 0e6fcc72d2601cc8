//! All layers into one tree, and the tree into one value.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;

use crate::Configuration;
use crate::document;
use crate::environment::{Setting, flags, node_of, settings};
use crate::node::{Content, Node, Origin, Source};
use crate::problem::{Layer, Problem};
use crate::rules::Rules;
use crate::schema::Schema;
use crate::validate;

/// Where a configuration comes from. Nothing here is read from the process: the caller gives it.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// Files, later ones winning.
    pub files: Vec<PathBuf>,
    /// The `.env` file, when there is one.
    pub dotenv: Option<PathBuf>,
    /// The process environment.
    pub environment: Vec<(String, String)>,
    /// `KEY=VALUE` flags.
    pub set: Vec<String>,
}

/// A configuration that has been read.
pub(crate) struct Loaded<C> {
    pub(crate) value: C,
    pub(crate) tree: Node,
    /// Every file that was read, extended ones included.
    pub(crate) files: Vec<PathBuf>,
}

/// The defaults as values.
pub(crate) fn defaults<C: Configuration>() -> Value {
    serde_json::to_value(C::default()).unwrap_or_default()
}

/// Reads all layers, `updates` last.
///
/// # Errors
/// Every problem of every layer, and the files that were read as far as they could be.
pub(crate) fn load<C: Configuration>(
    sources: &Sources,
    updates: &[(String, Value)],
    rules: &Rules<C>,
    schema: &Value,
) -> Result<Loaded<C>, (Vec<Problem>, Vec<PathBuf>)> {
    let schema = Schema::root(schema);
    let (mut problems, mut files) = (Vec::new(), Vec::new());
    let dotenv = dotenv(sources.dotenv.as_deref(), &mut problems);
    let lookup = |name: &str| {
        let find = |variables: &[(String, String)]| {
            variables.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.clone())
        };
        find(&sources.environment).or_else(|| find(&dotenv))
    };

    let mut below = source_node(&defaults::<C>(), "default", Layer::Default);
    for path in &sources.files {
        for node in document::read(path, &lookup, &mut files, &mut problems) {
            below.merge(node);
        }
    }
    let flags = flags(&sources.set, schema, &mut problems);
    let updates: Vec<Setting> =
        updates.iter().map(|(key, value)| (key.clone(), update(key, value, schema))).collect();
    let assemble = |merged: Option<&Value>, problems: &mut Vec<Problem>| {
        let mut tree = below.clone();
        for (variables, layer) in [(&dotenv, Layer::DotEnv), (&sources.environment, Layer::Environment)] {
            lay(&mut tree, settings(variables, layer, rules, schema, merged, problems));
        }
        lay(&mut tree, flags.clone());
        lay(&mut tree, updates.clone());
        tree
    };
    // Twice: what some names set depends on the values of all layers.
    let first = assemble(None, &mut Vec::new()).to_json();
    let tree = assemble(Some(&first), &mut problems);

    let all: Vec<String> = schema.leaves("").into_iter().map(|(path, _)| path).collect();
    let canonical = canonical(&tree, rules);
    problems.extend(validate::check(&canonical, schema, &all));
    if !problems.is_empty() {
        return Err((hide(problems, rules), files));
    }
    match serde_path_to_error::deserialize::<_, C>(&whole_numbers(canonical.to_json(), schema)) {
        Ok(value) => {
            let problems = check(&value, &tree, rules);
            if problems.is_empty() { Ok(Loaded { value, tree, files }) } else { Err((problems, files)) }
        }
        Err(error) => {
            let path = error.path().to_string();
            let path = if path == "." { String::new() } else { path };
            let message = error.into_inner().to_string();
            Err((hide(vec![placed(Problem::at(path, message), &tree)], rules), files))
        }
    }
}

/// The program's own checks, each problem at its place.
pub(crate) fn check<C: Configuration>(value: &C, tree: &Node, rules: &Rules<C>) -> Vec<Problem> {
    rules.validators.iter().flat_map(|check| check(value)).map(|problem| placed(problem, tree)).collect()
}

fn placed(problem: Problem, tree: &Node) -> Problem {
    let origin = &tree.nearest(&problem.path).origin;
    let has_key = tree.find(&problem.path).is_some();
    let place = problem.place.clone().or_else(|| if has_key { origin.place() } else { None });
    Problem { place, layer: problem.layer.or(Some(origin.layer())), ..problem }
}

/// Takes the text of secrets out of problems.
fn hide<C>(problems: Vec<Problem>, rules: &Rules<C>) -> Vec<Problem> {
    let hidden = |problem: Problem| {
        if !rules.is_secret(&problem.path) {
            return problem;
        }
        let message = "the value of this secret is not of the right kind".to_owned();
        Problem { place: None, help: None, message, ..problem }
    };
    problems.into_iter().map(hidden).collect()
}

fn source_node(value: &Value, name: &str, layer: Layer) -> Node {
    let source = Arc::new(Source { name: PathBuf::from(name), text: "".into(), layer });
    Node::from_json(value, &Origin { source, span: 0..0 })
}

fn update(key: &str, value: &Value, schema: Schema<'_>) -> Node {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    match value {
        Value::String(_) => node_of(&text, key, Layer::Update, schema.find(key)),
        _ => {
            let source =
                Source { name: PathBuf::from(key), text: text.as_str().into(), layer: Layer::Update };
            Node::from_json(value, &Origin { source: Arc::new(source), span: 0..text.len() })
        }
    }
}

fn lay(tree: &mut Node, settings: Vec<Setting>) {
    for (key, node) in settings {
        tree.merge(node.nested(&key));
    }
}

fn dotenv(path: Option<&std::path::Path>, problems: &mut Vec<Problem>) -> Vec<(String, String)> {
    let Some(path) = path else { return Vec::new() };
    let wrong = |message: String| Problem {
        layer: Some(Layer::DotEnv),
        ..Problem::at("", format!("{}: {message}", path.display()))
    };
    let entries = match dotenvy::from_path_iter(path) {
        Ok(entries) => entries,
        Err(error) => {
            problems.push(wrong(error.to_string()));
            return Vec::new();
        }
    };
    let mut variables = Vec::new();
    for entry in entries {
        match entry {
            Ok(entry) => variables.push(entry),
            // A line may hold a key: its text stays out of the message.
            Err(_) => {
                problems.push(wrong("a line is not of the form NAME=value".to_owned()));
                break;
            }
        }
    }
    variables
}

/// The tree with canonical spellings.
fn canonical<C>(tree: &Node, rules: &Rules<C>) -> Node {
    let mut tree = tree.clone();
    for alias in rules.aliases {
        if let Some(node) = find_mut(&mut tree, alias.key)
            && let Content::Scalar(scalar) = &mut node.content
            && scalar.value.as_str() == Some(alias.alias)
        {
            scalar.value = alias.canonical.into();
        }
    }
    tree
}

fn find_mut<'n>(node: &'n mut Node, path: &str) -> Option<&'n mut Node> {
    let (first, rest) = path.split_once('.').unwrap_or((path, ""));
    let Content::Map(entries) = &mut node.content else { return None };
    let child = entries.iter_mut().find(|(key, _)| key.name == first).map(|(_, node)| node)?;
    if rest.is_empty() { Some(child) } else { find_mut(child, rest) }
}

/// Gives whole numbers that were written as floats (`1e3`) their integer form where the schema wants one, and
/// leaves out sections that are empty.
fn whole_numbers(value: Value, schema: Schema<'_>) -> Value {
    match value {
        Value::Object(map) => {
            let entries = map.into_iter().filter_map(|(name, value)| {
                let child = schema.property(&name);
                if value.is_null() && child.is_some_and(|child| !child.properties().is_empty()) {
                    return None;
                }
                let value = match child {
                    Some(child) => whole_numbers(value, child),
                    None => value,
                };
                Some((name, value))
            });
            Value::Object(entries.collect())
        }
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() && float.fract() == 0.0 && schema.types().contains(&"integer") => {
                Value::from(float as i64)
            }
            _ => Value::Number(number),
        },
        other => other,
    }
}
