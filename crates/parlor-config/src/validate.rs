//! A tree against its schema: every problem at once, each at its place.

use serde_json::Value;

use crate::node::{Content, Node, Origin, Style, join};
use crate::problem::Problem;
use crate::schema::Schema;
use crate::suggest;

/// Said of a key that the schema does not have.
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
        // Of several alternatives, the one of the node's own type speaks.
        let fitting = alternatives.iter().find(|schema| matches_type(node, **schema));
        match fitting {
            None => self.wrong_type(node, schema, path),
            Some(fitting) => match &node.content {
                Content::Map(_) => self.map(node, *fitting, path),
                Content::List(items) => {
                    if let Some(item) = fitting.items() {
                        for (index, node) in items.iter().enumerate() {
                            self.node(node, item, &join(path, &index.to_string()));
                        }
                    }
                }
                Content::Scalar(scalar) => {
                    if let Some(number) = scalar.value.as_f64() {
                        let own = std::iter::once(schema).chain(std::iter::once(*fitting));
                        if own.map(|schema| in_range(number, schema)).any(|fits| !fits) {
                            let range = schema.range().unwrap_or_default();
                            let message =
                                format!("{} is out of range; it must be {range}", short(&scalar.text));
                            self.push(&node.origin, path, message, None);
                        }
                    }
                }
            },
        }
    }

    fn map(&mut self, node: &Node, schema: Schema<'_>, path: &str) {
        let Content::Map(entries) = &node.content else { return };
        let known: Vec<&str> = schema.properties().iter().map(|(name, _)| *name).collect();
        for (key, child) in entries {
            let child_path = join(path, &key.name);
            if let Some(child_schema) = schema.property(&key.name) {
                // An empty section is as good as none.
                if !child.is_null() || child_schema.properties().is_empty() {
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
                    suggest::key(path, &key.name, &known, self.all)
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
                } else if types.contains(&"boolean") && is_yes_or_no(&scalar.text) {
                    Some(format!(
                        "write `{}`",
                        matches!(scalar.text.to_lowercase().as_str(), "yes" | "on" | "y")
                    ))
                } else if types.contains(&"string") && !scalar.value.is_null() {
                    Some(format!("put it in quotes: \"{}\"", short(&scalar.text)))
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

/// The beginning of a long text, on one line.
fn short(text: &str) -> String {
    const LONGEST: usize = 80;
    let mut line: String = text.chars().take(LONGEST).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(LONGEST).is_some() {
        line.push_str("...");
    }
    line
}

fn plain_without_underscores(text: &str) -> Value {
    crate::yaml::scalar(&text.replace('_', ""), Style::Plain).value
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
                // 1e3 is a whole number to a person.
                Some(float) if float.fract() == 0.0 && float.abs() < 1e15 => &["integer", "number"],
                _ => &["number"],
            },
            _ => &["integer", "number"],
        },
    };
    types.is_empty() || types.iter().any(|name| own.contains(name))
}

fn in_range(number: f64, schema: Schema<'_>) -> bool {
    let bound = |keyword: &str| schema.get(keyword).and_then(Value::as_f64);
    bound("minimum").is_none_or(|low| number >= low)
        && bound("maximum").is_none_or(|high| number <= high)
        && bound("exclusiveMinimum").is_none_or(|low| number > low)
        && bound("exclusiveMaximum").is_none_or(|high| number < high)
}
