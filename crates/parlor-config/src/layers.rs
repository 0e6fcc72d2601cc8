//! Merges all layers into one tree, and turns the tree into one value.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::configuration::Configuration;
use crate::document;
use crate::dotenv::{self, Variable};
use crate::environment::{Setting, flags, node_of, origin_of, settings};
use crate::node::{Content, Node, Origin, Source};
use crate::problem::{Layer, Place, Problem};
use crate::rules::Rules;
use crate::schema::Schema;
use crate::validate;

/// Where a configuration comes from. Nothing is read from the process itself: the caller passes it.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// Files; later ones win.
    pub files: Vec<PathBuf>,
    /// The `.env` file, when there is one.
    pub dotenv: Option<PathBuf>,
    /// The process environment.
    pub environment: Vec<(String, String)>,
    /// `KEY=VALUE` flags.
    pub set: Vec<String>,
}

/// A valid configuration.
#[derive(Debug)]
pub(crate) struct Loaded<C> {
    pub(crate) value: C,
    pub(crate) tree: Node,
    /// Duration of the checks.
    pub(crate) validation: Duration,
}

/// The defaults as values.
pub(crate) fn defaults<C: Configuration>() -> Value {
    serde_json::to_value(C::default()).unwrap_or_default()
}

/// All layers but the updates at run time.
#[derive(Debug)]
pub(crate) struct Read {
    /// Defaults and files.
    below: Node,
    dotenv: Vec<Variable>,
    environment: Vec<Variable>,
    flags: Vec<Setting>,
    /// Every file that was read or looked for, extended files included.
    pub(crate) files: Vec<PathBuf>,
    problems: Vec<Problem>,
}

/// Reads all layers as far as possible; [`assemble`] reports what is wrong with them.
pub(crate) fn read<C: Configuration>(sources: &Sources, schema: &Value) -> Read {
    let (mut problems, mut files) = (Vec::new(), Vec::new());
    let environment = dotenv::of_process(&sources.environment);
    let dotenv = sources
        .dotenv
        .as_deref()
        .map(|path| dotenv::read(path, &environment, &mut problems))
        .unwrap_or_default();
    let lookup = |name: &str| {
        let find = |variables: &[Variable]| {
            variables.iter().rev().find(|known| known.name == name).map(|variable| variable.value.clone())
        };
        find(&environment).filter(|value| !value.is_empty()).or_else(|| find(&dotenv))
    };
    let mut below = source_node(&defaults::<C>(), "default", Layer::Default);
    for path in &sources.files {
        for node in document::read(path, &lookup, &mut files, &mut problems) {
            below.merge(node);
        }
    }
    let flags = flags(&sources.set, Schema::root(schema), &mut problems);
    Read { below, dotenv, environment, flags, files, problems }
}

/// Merges all layers, `updates` last, into one value.
///
/// # Errors
/// Every problem of every layer.
pub(crate) fn assemble<C: Configuration>(
    read: &Read,
    updates: &[(String, Value)],
    rules: &Rules<C>,
    schema: &Value,
) -> Result<Loaded<C>, Vec<Problem>> {
    let schema = Schema::root(schema);
    let mut problems = read.problems.clone();
    let updates: Vec<Setting> = updates.iter().map(|(key, value)| update(key, value, schema)).collect();
    let over = |merged: Option<&Value>, problems: &mut Vec<Problem>| {
        let mut tree = read.below.clone();
        for (variables, layer) in [(&read.dotenv, Layer::DotEnv), (&read.environment, Layer::Environment)] {
            lay(&mut tree, settings(variables, layer, rules, schema, merged, problems));
        }
        lay(&mut tree, read.flags.clone());
        lay(&mut tree, updates.clone());
        tree
    };
    // Twice, because the key of some environment names depends on the values of all layers.
    let first = canonical(&over(None, &mut Vec::new()), rules).to_json();
    let tree = over(Some(&first), &mut problems);

    let start = Instant::now();
    let canonical = canonical(&tree, rules);
    let reported = problems.clone();
    let defaults = defaults::<C>();
    for problem in validate::check(&canonical, schema, &schema.paths("")) {
        // Failed interpolations and YAML errors have been reported at this place already.
        let known = problem.layer == Some(Layer::File) && problem.place.is_some();
        if !known || reported.iter().all(|other| other.place != problem.place) {
            problems.push(helped(hide(problem, rules), &defaults));
        }
    }
    if problems.is_empty() {
        match serde_path_to_error::deserialize::<_, C>(&whole_numbers(canonical.to_json(), schema)) {
            Ok(value) => {
                let problems = check(&value, &tree, rules);
                let validation = start.elapsed();
                return if problems.is_empty() {
                    Ok(Loaded { value, tree, validation })
                } else {
                    Err(problems)
                };
            }
            Err(error) => {
                let path = error.path().to_string().replace('[', ".").replace(']', "");
                let path = if path == "." { String::new() } else { path };
                let message = error.into_inner().to_string();
                problems.push(hide(placed(Problem::at(path, message), &tree), rules));
            }
        }
    }
    // In the order of the text. The sort is stable, so problems without a place stay where they are.
    let file = |problem: &Problem| {
        let place = problem.place.as_ref();
        place.map(|place| read.files.iter().position(|file| *file == place.file).unwrap_or(usize::MAX))
    };
    problems.sort_by_key(|problem| {
        (problem.layer, file(problem), problem.place.as_ref().map(|place| place.offset))
    });
    Err(masked(problems, rules))
}

/// The program's own validators, each problem with its place.
pub(crate) fn check<C: Configuration>(value: &C, tree: &Node, rules: &Rules<C>) -> Vec<Problem> {
    let problems = rules.validators.iter().flat_map(|check| check(value));
    masked(problems.map(|problem| placed(problem, tree)).collect(), rules)
}

fn placed(problem: Problem, tree: &Node) -> Problem {
    let origin = &tree.nearest(&problem.path).origin;
    let has_key = tree.find(&problem.path).is_some();
    let place = problem.place.clone().or_else(|| if has_key { origin.place() } else { None });
    Problem { place, layer: problem.layer.or(Some(origin.layer())), ..problem }
}

/// Adds the default as help where a problem has none.
fn helped(problem: Problem, defaults: &Value) -> Problem {
    let pointer: String = problem.path.split('.').map(|part| format!("/{part}")).collect();
    match defaults.pointer(&pointer) {
        Some(default) if problem.help.is_none() && !default.is_null() && !default.is_object() => {
            problem.help(format!("the default is {default}"))
        }
        _ => problem,
    }
}

/// Removes the value of a secret from a problem with it.
fn hide<C>(problem: Problem, rules: &Rules<C>) -> Problem {
    let is_above = |key: &&str| key.strip_prefix(problem.path.as_str()).is_some_and(|r| r.starts_with('.'));
    let (message, help) = if rules.is_secret(&problem.path) {
        let help = "text that looks like a number stands in quotes";
        ("the value of this secret, which is not shown, is not of the right kind", help)
    } else if rules.secrets.iter().any(is_above) && problem.message.contains("this is the text") {
        ("a section was expected; what stands here is not shown", "put it below its key")
    } else {
        return problem;
    };
    let place = problem.place.map(|place| {
        let end = place.offset + place.len;
        let mask =
            |(at, c): (usize, char)| if (place.offset..end).contains(&at) { stars(c) } else { c.into() };
        let source: String = place.source.char_indices().map(mask).collect();
        Place { source: source.into(), ..place }
    });
    Problem { place, help: Some(help.to_owned()), message: message.to_owned(), ..problem }
}

/// A replacement of as many bytes as the character has, so that places stay valid.
fn stars(c: char) -> String {
    if c == '\n' || c == '\r' { c.to_string() } else { "*".repeat(c.len_utf8()) }
}

/// Blanks the secrets in the source text of a problem, because the lines around a place are shown. Finds them
/// by the names of their keys, since a file with a syntax error has no tree.
fn masked<C>(mut problems: Vec<Problem>, rules: &Rules<C>) -> Vec<Problem> {
    let mut done: Vec<(Arc<str>, Arc<str>)> = Vec::new();
    for place in problems.iter_mut().filter_map(|problem| problem.place.as_mut()) {
        let known = done.iter().find(|(source, _)| Arc::ptr_eq(source, &place.source));
        let masked = known.map(|(_, masked)| Arc::clone(masked)).unwrap_or_else(|| {
            let masked: Arc<str> = without_secrets(&place.source, rules).into();
            done.push((Arc::clone(&place.source), Arc::clone(&masked)));
            masked
        });
        place.source = masked;
    }
    problems
}

fn without_secrets<C>(source: &str, rules: &Rules<C>) -> String {
    let names: Vec<&str> =
        rules.secrets.iter().map(|key| key.rsplit('.').next().unwrap_or_default()).collect();
    let is_secret = |key: &str| names.contains(&key.trim().trim_matches(['"', '\'']));
    let mut out = String::new();
    let mut below: Option<usize> = None;
    for line in source.split_inclusive('\n') {
        let indent = line.len() - line.trim_start().len();
        // The value is on the lines below its key.
        let continues = below.is_some_and(|key| indent > key || line.trim().is_empty());
        let colon = line.match_indices(':').map(|(at, _)| at).find(|&at| {
            let key = line[..at].rsplit(['{', ',', '[', ' ']).find(|part| !part.is_empty());
            is_secret(key.unwrap_or_default())
        });
        let from = match colon {
            _ if continues => 0,
            Some(at) => at + 1,
            None => line.len(),
        };
        if !continues {
            below = colon.map(|_| indent);
        }
        out.push_str(&line[..from]);
        out.extend(line[from..].chars().map(|c| if c == ' ' { c.to_string() } else { stars(c) }));
    }
    out
}

fn source_node(value: &Value, name: &str, layer: Layer) -> Node {
    let source = Arc::new(Source { name: PathBuf::from(name), text: "".into(), layer });
    Node::from_json(value, &Origin { source, span: 0..0 })
}

fn update(key: &str, value: &Value, schema: Schema<'_>) -> Setting {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let node = match value {
        Value::String(_) => node_of(&text, key, Layer::Update, schema.find(key)),
        _ => Node::from_json(value, &origin_of(key, &text, Layer::Update)),
    };
    Setting { key: key.to_owned(), key_origin: origin_of(key, key, Layer::Update), node }
}

fn lay(tree: &mut Node, settings: Vec<Setting>) {
    for Setting { key, key_origin, node } in settings {
        tree.merge(node.nested(&key, &key_origin));
    }
}

/// The tree with canonical spellings.
pub(crate) fn canonical<C>(tree: &Node, rules: &Rules<C>) -> Node {
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

/// Turns whole numbers that are written as floats (`1e3`) into integers where the schema wants one, and
/// removes empty sections.
fn whole_numbers(value: Value, schema: Schema<'_>) -> Value {
    match value {
        Value::Object(map) => {
            let entries = map.into_iter().filter_map(|(name, value)| {
                let child = schema.find_child(&name);
                let is_empty_section =
                    |child: Schema<'_>| !child.properties().is_empty() && !child.takes_null();
                if value.is_null() && child.is_some_and(is_empty_section) {
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
        Value::Array(items) => {
            let items = items.into_iter().map(|item| match schema.element() {
                Some(element) => whole_numbers(item, element),
                None => item,
            });
            items.collect()
        }
        Value::Number(number) => match number.as_f64() {
            Some(float)
                if number.is_f64()
                    && float.fract() == 0.0
                    && float.abs() < 1e15
                    && schema.types().contains(&"integer") =>
            {
                Value::from(float as i64)
            }
            _ => Value::Number(number),
        },
        other => other,
    }
}
