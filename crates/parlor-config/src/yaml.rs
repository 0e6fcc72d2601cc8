//! Parses YAML into a tree with places.
//!
//! Built on the events of `granit-parser`, the parser below `serde-saphyr`: a deserializer does not say where an
//! *unknown* key stands, nor whether a scalar was quoted, and both are needed here. Scalars follow the YAML 1.2
//! core schema, and `5e-5` (no point, as Python users write it) is a float.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use granit_parser::{Event, Parser, ScalarStyle, Span, Tag};
use serde_json::Value;

use crate::node::{Content, Key, Node, Origin, Scalar, Source, Style};
use crate::problem::Problem;

/// Maximum number of nodes of a file with aliases expanded, which bounds alias bombs.
const MAX_NODES: usize = 100_000;
const MAX_DEPTH: usize = 64;

/// Parses `source`: the tree, and what is wrong with it, each with its place. There is no tree when the text
/// is empty, and none after a syntax error; duplicate keys, unknown tags and a second document leave one, so
/// that the rest of the file can be checked too.
pub(crate) fn parse(source: &Arc<Source>) -> (Option<Node>, Vec<Problem>) {
    let mut builder = Builder {
        source,
        open: Vec::new(),
        anchors: HashMap::new(),
        root: None,
        nodes: 0,
        problems: Vec::new(),
    };
    let mut documents = 0;
    for event in Parser::new_from_str(&source.text) {
        let (event, span) = match event {
            Ok(next) => next,
            Err(error) => {
                let at = error.marker().byte_offset().unwrap_or(0);
                let message = if error.info().contains("recursion limit") {
                    format!("nested deeper than {MAX_DEPTH} levels")
                } else {
                    format!("not valid YAML: {}", error.info())
                };
                let mut problem = builder.problem(at..at + 1, message);
                problem.help = tab_help(&source.text, at);
                builder.problems.push(problem);
                return (None, builder.problems);
            }
        };
        if matches!(event, Event::DocumentStart(..)) {
            documents += 1;
            if documents > 1 {
                let problem = builder
                    .problem(bytes(&span), "a second YAML document begins here; one is read".to_owned());
                builder.problems.push(problem.help("remove `---` and what follows it"));
                break;
            }
        }
        if let Err(problem) = builder.take(event, &span) {
            builder.problems.push(*problem);
            return (None, builder.problems);
        }
    }
    (builder.root, builder.problems)
}

fn bytes(span: &Span) -> Range<usize> {
    span.byte_range().unwrap_or(0..0)
}

/// The part of `span` on its first line, without the white space around it: a section of many lines is not
/// underlined as a whole.
fn first_line(text: &str, span: Range<usize>) -> Range<usize> {
    let Some(part) = text.get(span.clone()) else { return span };
    let line = part.lines().next().unwrap_or_default();
    span.start..span.start + line.trim_end().len()
}

fn tab_help(text: &str, at: usize) -> Option<String> {
    let line = text.get(..at)?.rsplit('\n').next()?.len();
    let start = at - line;
    let line = text.get(start..)?.lines().next()?;
    let indent: String = line.chars().take_while(|c| c.is_whitespace()).collect();
    indent.contains('\t').then(|| "YAML is indented with spaces: replace the tab".to_owned())
}

/// A collection that is being parsed.
struct Open {
    node: Node,
    anchor: usize,
    /// The key whose value comes next.
    key: Option<Key>,
    /// Index of each key in the map.
    keys: HashMap<String, usize>,
    start: usize,
}

struct Builder<'s> {
    source: &'s Arc<Source>,
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    root: Option<Node>,
    nodes: usize,
    problems: Vec<Problem>,
}

impl Builder<'_> {
    fn origin(&self, span: Range<usize>) -> Origin {
        Origin { source: Arc::clone(self.source), span }
    }

    fn problem(&self, span: Range<usize>, message: String) -> Problem {
        let origin = self.origin(span);
        Problem { place: origin.place(), layer: Some(origin.layer()), ..Problem::at("", message) }
    }

    fn take(&mut self, event: Event<'_>, span: &Span) -> Result<(), Box<Problem>> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let tagged_text = self.tag(tag.as_deref(), span);
                let style =
                    if style == ScalarStyle::Plain && !tagged_text { Style::Plain } else { Style::Quoted };
                let scalar = scalar(&text, style);
                let node = Node { content: Content::Scalar(scalar), origin: self.origin(bytes(span)) };
                self.add(node, anchor)
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.tag(tag.as_deref(), span);
                self.begin(Content::List(Vec::new()), anchor, span)
            }
            Event::MappingStart(_, anchor, tag) => {
                self.tag(tag.as_deref(), span);
                self.begin(Content::Map(Vec::new()), anchor, span)
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(mut open) => {
                    open.node.origin.span = first_line(&self.source.text, open.start..bytes(span).end);
                    self.add(open.node, open.anchor)
                }
                None => Ok(()),
            },
            Event::Alias(id) => match self.anchors.get(&id).cloned() {
                Some(node) => {
                    self.nodes += count(&node);
                    self.add(node, 0)
                }
                None => Err(Box::new(
                    self.problem(bytes(span), "an alias to a node that is not complete".to_owned()),
                )),
            },
            _ => Ok(()),
        }
    }

    /// Whether a tag says that the scalar is text. Tags of other types say what the value is anyway; any tag that
    /// is not YAML's own would be ignored silently, so it is a problem.
    fn tag(&mut self, tag: Option<&Tag>, span: &Span) -> bool {
        let Some(tag) = tag else { return false };
        if !tag.is_yaml_core_schema() {
            let message = format!("the tag `{tag}` means nothing here");
            let problem = self.problem(bytes(span), message).help("remove it");
            self.problems.push(problem);
        }
        tag.suffix() == "str"
    }

    fn begin(&mut self, content: Content, anchor: usize, span: &Span) -> Result<(), Box<Problem>> {
        let start = bytes(span).start;
        if self.open.len() >= MAX_DEPTH {
            let message = format!("nested deeper than {MAX_DEPTH} levels");
            return Err(Box::new(self.problem(start..start + 1, message)));
        }
        let node = Node { content, origin: self.origin(start..start) };
        self.open.push(Open { node, anchor, key: None, keys: HashMap::new(), start });
        Ok(())
    }

    fn add(&mut self, node: Node, anchor: usize) -> Result<(), Box<Problem>> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            let message = format!("more than {MAX_NODES} values, aliases counted as often as they are used");
            return Err(Box::new(self.problem(node.origin.span, message)));
        }
        if anchor > 0 {
            // Copies count against the limit, since nested anchors multiply.
            self.nodes += count(&node);
            self.anchors.insert(anchor, node.clone());
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match &mut open.node.content {
            Content::List(items) => items.push(node),
            Content::Map(entries) => match open.key.take() {
                None => {
                    let Content::Scalar(scalar) = &node.content else {
                        let message = "a key must be a plain name".to_owned();
                        return Err(Box::new(self.problem(node.origin.span, message)));
                    };
                    open.key = Some(Key { name: scalar.text.clone(), origin: node.origin });
                }
                Some(key) => match open.keys.get(&key.name).copied() {
                    None => {
                        open.keys.insert(key.name.clone(), entries.len());
                        entries.push((key, node));
                    }
                    Some(first) => {
                        let line = entries[first].0.origin.place().map_or(0, |place| place.line);
                        let message = format!("the key `{}` stands here a second time", key.name);
                        let problem = self.problem(key.origin.span, message);
                        self.problems
                            .push(problem.help(format!("it was first given on line {line}; keep one")));
                    }
                },
            },
            Content::Scalar(_) => {}
        }
        Ok(())
    }
}

fn count(node: &Node) -> usize {
    match &node.content {
        Content::Scalar(_) => 1,
        Content::List(items) => 1 + items.iter().map(count).sum::<usize>(),
        Content::Map(entries) => 1 + entries.iter().map(|(_, node)| count(node)).sum::<usize>(),
    }
}

/// A scalar with its type: a quoted one is text.
pub(crate) fn scalar(text: &str, style: Style) -> Scalar {
    let value = match style {
        Style::Quoted => Value::String(text.to_owned()),
        Style::Plain => plain(text),
    };
    Scalar { value, raw: None, text: text.to_owned(), style }
}

fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    number(text).unwrap_or_else(|| Value::String(text.to_owned()))
}

fn number(text: &str) -> Option<Value> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    for (prefix, radix) in [("0x", 16), ("0o", 8)] {
        if let Some(digits) = text.strip_prefix(prefix) {
            let all = digits.chars().all(|c| c.is_digit(radix));
            return u64::from_str_radix(digits, radix).ok().filter(|_| all).map(Value::from);
        }
    }
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        || !digits.contains(|c: char| c.is_ascii_digit())
        || !digits.chars().all(|c| c.is_ascii_digit() || ".eE+-".contains(c))
    {
        return None;
    }
    let unsigned = text.strip_prefix('+').unwrap_or(text);
    if let Ok(integer) = unsigned.parse::<i64>() {
        return Some(integer.into());
    }
    if let Ok(integer) = unsigned.parse::<u64>() {
        return Some(integer.into());
    }
    let float: f64 = unsigned.parse().ok()?;
    serde_json::Number::from_f64(float).map(Value::Number)
}
