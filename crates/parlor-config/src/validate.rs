//! Validates a tree against its schema: reports every problem at once, each with its place.

use serde_json::Value;

use crate::limits;
use crate::node::{Content, Node, Origin, Style, join};
use crate::problem::{Problem, short};
use crate::schema::Schema;
use crate::suggest;

/// The message for a key that the schema does not have.
pub(crate) const UNKNOWN_KEY: &str = "unknown key";

/// Checks `node`; `all` are the paths of all keys, for suggestions.
pub(crate) fn check(node: &Node, schema: Schema<'_>, all: &[String]) -> Vec<Problem> {
    let mut checker = Checker { all, problems: Vec::new() };
    checker.node(node, schema, "");
    checker.problems
}

struct Checker<'a> {
    all: &'a [String],
    problems: Vec<Problem>,
}

impl Checker<'_> {
    fn push(&mut self, origin: &Origin, path: &str, message: String, help: Option<String>) {
        self.problems.push(Problem {
            path: path.to_owned(),
            message,
            help,
            place: origin.place(),
            layer: Some(origin.layer()),
        });
    }

    fn node(&mut self, node: &Node, schema: Schema<'_>, path: &str) {
        if schema.is_free() {
            return;
        }
        let alternatives = schema.alternatives();
        let choices = schema.choices();
        if let (false, Content::Scalar(scalar)) = (choices.is_empty(), &node.content)
            && !(scalar.value.is_null() && schema.types().contains(&"null"))
            && !(scalar.value.is_string() && schema.takes_any_text())
            && (scalar.value.is_string() || !matches_type(node, schema))
        {
            return self.choice(node, &scalar.value, &choices, path);
        }
        // Of several alternatives, those of the node's type apply, and of these those with its tag.
        let fitting = alternatives.into_iter().filter(|schema| matches_type(node, *schema));
        let fitting: Vec<(usize, Schema<'_>)> =
            fitting.map(|schema| (distance(node, schema), schema)).collect();
        let least = fitting.iter().map(|(distance, _)| *distance).min();
        let mut nearest = fitting.into_iter().filter(|(distance, _)| Some(*distance) == least);
        let Some((_, first)) = nearest.next() else { return self.wrong_type(node, schema, path) };
        let mut problems = self.against(node, schema, first, path);
        // When the tags do not decide, the one with the fewest problems.
        for (_, other) in nearest {
            if problems.is_empty() {
                break;
            }
            let others = self.against(node, schema, other, path);
            if others.len() < problems.len() {
                problems = others;
            }
        }
        self.problems.extend(problems);
    }

    /// The problems of `node` against an `alternative` of `schema` of its type.
    fn against(&self, node: &Node, schema: Schema<'_>, alternative: Schema<'_>, path: &str) -> Vec<Problem> {
        let mut checker = Checker { all: self.all, problems: Vec::new() };
        match &node.content {
            Content::Map(_) => checker.map(node, alternative, path),
            Content::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    if let Some(schema) = alternative.item(index) {
                        checker.node(item, schema, &join(path, &index.to_string()));
                    }
                }
            }
            Content::Scalar(_) => {}
        }
        if let Some((message, help)) = limits::exceeded(node, schema, alternative) {
            checker.push(&node.origin, path, message, help);
        }
        checker.problems
    }

    fn map(&mut self, node: &Node, schema: Schema<'_>, path: &str) {
        let Content::Map(entries) = &node.content else { return };
        let known: Vec<&str> = schema.properties().iter().map(|(name, _)| *name).collect();
        for (key, child) in entries {
            let child_path = join(path, &key.name);
            if let Some(child_schema) = schema.property(&key.name) {
                // An empty section counts as absent.
                if !child.is_null() || child_schema.properties().is_empty() || child_schema.takes_null() {
                    self.node(child, child_schema, &child_path);
                }
            } else if let Some(free) = schema.additional() {
                self.node(child, free, &child_path);
            } else {
                let help = if key.name.contains('.') && self.all.contains(&child_path) {
                    let (section, last) = key.name.rsplit_once('.').unwrap_or(("", &key.name));
                    let sections = section.replace('.', ": { ");
                    let close = " }".repeat(section.matches('.').count() + 1);
                    Some(format!(
                        "a dot does not open a section here: write `{sections}: {{ {last}: ...{close}`"
                    ))
                } else {
                    // Of some sections one is in force, which a scalar beside them names: `training_type: lora`.
                    let words = entries.iter().filter_map(|(_, entry)| match &entry.content {
                        Content::Scalar(scalar) => Some(join(path, &scalar.text)),
                        _ => None,
                    });
                    let in_force =
                        words.map(|section| join(&section, &key.name)).find(|key| self.all.contains(key));
                    in_force
                        .or_else(|| suggest::key(path, &key.name, &known, self.all))
                        .map(|near| format!("did you mean `{near}`?"))
                        .or_else(|| Some(format!("known here: {}", known.join(", "))))
                };
                self.push(&key.origin, &child_path, UNKNOWN_KEY.to_owned(), help);
            }
        }
    }

    fn choice(&mut self, node: &Node, value: &Value, choices: &[(&str, Option<&str>)], path: &str) {
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        if value.as_str().is_some_and(|text| names.contains(&text)) {
            return;
        }
        let list = format!("one of {}", names.join(", "));
        if value.is_null() {
            let message = "a value was expected, but this is nothing".to_owned();
            return self.push(&node.origin, path, message, Some(format!("it takes {list}")));
        }
        let given = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let help = match suggest::nearest(&given, names.iter().copied()) {
            Some(near) => format!("did you mean `{near}`? It takes {list}"),
            None => format!("it takes {list}"),
        };
        self.push(&node.origin, path, format!("`{}` is not a value of this key", short(&given)), Some(help));
    }

    fn wrong_type(&mut self, node: &Node, schema: Schema<'_>, path: &str) {
        let types = schema.types();
        let wanted = types.iter().filter(|name| **name != "null").map(|name| type_name(name));
        let wanted = wanted.collect::<Vec<_>>().join(" or ");
        let (found, help) = match &node.content {
            Content::Map(_) if types.contains(&"array") => {
                ("a section".to_owned(), Some("a list is set as a whole: [a, b]".to_owned()))
            }
            Content::Map(_) => ("a section".to_owned(), None),
            Content::List(_) => ("a list".to_owned(), None),
            Content::Scalar(scalar) => {
                let numeric = types.iter().any(|name| matches!(*name, "integer" | "number"));
                let plain = crate::yaml::scalar(&scalar.text, Style::Plain).value;
                let fits = |value: &Value| match value {
                    Value::Number(number) => numeric && (types.contains(&"number") || !number.is_f64()),
                    Value::Bool(_) => types.contains(&"boolean"),
                    _ => false,
                };
                let help = if scalar.value.is_string() && fits(&plain) {
                    Some(format!("remove the quotes: `{}`", scalar.text))
                } else if numeric && fits(&plain_without_underscores(&scalar.text)) {
                    Some(format!("write `{}`", scalar.text.replace('_', "")))
                } else if numeric && is_not_finite(&scalar.text) {
                    Some("write a finite number".to_owned())
                } else if types.contains(&"boolean") && is_yes_or_no(&scalar.text) {
                    Some(format!(
                        "write `{}`",
                        matches!(scalar.text.to_lowercase().as_str(), "yes" | "on" | "y")
                    ))
                } else if types.contains(&"string") && !scalar.value.is_null() {
                    Some(format!("put it in quotes: \"{}\"", short(&scalar.text)))
                } else if types.contains(&"array") && scalar.value.is_null() {
                    Some(
                        "write a list, which begins with `- ` on the next line, or leave the key out"
                            .to_owned(),
                    )
                } else if types.contains(&"array") {
                    Some(format!("write a list: [{}]", short(&scalar.text)))
                } else {
                    None
                };
                let found = match &scalar.value {
                    Value::Null => "nothing".to_owned(),
                    Value::String(text) => format!("the text \"{}\"", short(text)),
                    other => format!("`{other}`"),
                };
                (found, help)
            }
        };
        self.push(&node.origin, path, format!("{wanted} was expected, but this is {found}"), help);
    }
}

fn plain_without_underscores(text: &str) -> Value {
    crate::yaml::scalar(&text.replace('_', ""), Style::Plain).value
}

fn is_not_finite(text: &str) -> bool {
    let name = text.trim_start_matches(['+', '-', '.']).to_lowercase();
    matches!(name.as_str(), "nan" | "inf" | "infinity")
}

fn is_yes_or_no(text: &str) -> bool {
    matches!(text.to_lowercase().as_str(), "yes" | "no" | "on" | "off" | "y" | "n")
}

pub(crate) fn type_name(name: &str) -> &str {
    match name {
        "integer" => "a whole number",
        "number" => "a number",
        "boolean" => "true or false",
        "string" => "a text",
        "array" => "a list",
        "object" => "a section",
        other => other,
    }
}

fn matches_type(node: &Node, schema: Schema<'_>) -> bool {
    matches_types(node, &schema.types())
}

/// Whether the node is of one of the JSON `types`; of any when there are none.
pub(crate) fn matches_types(node: &Node, types: &[&str]) -> bool {
    let own: &[&str] = match &node.content {
        Content::Map(_) => &["object"],
        Content::List(_) => &["array"],
        Content::Scalar(scalar) => match &scalar.value {
            Value::Null => &["null"],
            Value::Bool(_) => &["boolean"],
            Value::String(_) => &["string"],
            Value::Number(number) if number.is_f64() => match number.as_f64() {
                // 1e3 counts as a whole number.
                Some(float) if float.fract() == 0.0 && float.abs() < 1e15 => &["integer", "number"],
                _ => &["number"],
            },
            _ => &["integer", "number"],
        },
    };
    types.is_empty() || types.iter().any(|name| own.contains(name))
}

/// The distance of a section from `schema`: the number of tags with another value and of missing keys.
fn distance(node: &Node, schema: Schema<'_>) -> usize {
    let Content::Map(entries) = &node.content else { return 0 };
    let find = |name: &str| entries.iter().find(|(key, _)| key.name == name).map(|(_, child)| child);
    let tags = schema.properties().into_iter().filter_map(|(name, child)| Some((name, child.get("const")?)));
    let other = tags.filter(|(name, tag)| find(name).is_some_and(|child| child.to_json() != **tag)).count();
    other + schema.required().into_iter().filter(|name| find(name).is_none()).count()
}
