//! The merged tree: values with their origins.

use std::collections::HashMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::problem::{Layer, Place};

/// A source of values.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Source {
    /// Name of the file, variable or flag.
    pub(crate) name: PathBuf,
    pub(crate) text: Arc<str>,
    pub(crate) layer: Layer,
}

/// Where a node comes from.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    pub(crate) source: Arc<Source>,
    /// Range of bytes in the source's text.
    pub(crate) span: Range<usize>,
}

impl Origin {
    pub(crate) fn layer(&self) -> Layer {
        self.source.layer
    }

    /// The place to underline; none for defaults, which have no text.
    pub(crate) fn place(&self) -> Option<Place> {
        if self.source.layer == Layer::Default {
            return None;
        }
        let text = &self.source.text;
        let start = text.floor_char_boundary(self.span.start);
        let end = text.ceil_char_boundary(self.span.end).max(start);
        let before = text.get(..start).unwrap_or_default();
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Some(Place {
            file: self.source.name.clone(),
            line: before.matches('\n').count() + 1,
            column,
            offset: start,
            len: end - start,
            source: Arc::clone(text),
        })
    }
}

/// Whether a scalar was written in quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    Plain,
    Quoted,
}

/// A scalar.
#[derive(Clone, Debug)]
pub(crate) struct Scalar {
    pub(crate) value: Value,
    /// The original text, when `${...}` was interpolated in it.
    pub(crate) raw: Option<String>,
    /// The text after interpolation, for messages and for keys that take any text.
    pub(crate) text: String,
    pub(crate) style: Style,
}

/// A key of a map.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) name: String,
    pub(crate) origin: Origin,
}

/// The content of a node.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

/// The key `name` of the section `path`.
pub(crate) fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// A value with its origin.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) content: Content,
    pub(crate) origin: Origin,
}

impl Node {
    /// A tree of values of one source, without places.
    pub(crate) fn from_json(value: &Value, origin: &Origin) -> Self {
        let content = match value {
            Value::Array(items) => {
                Content::List(items.iter().map(|item| Self::from_json(item, origin)).collect())
            }
            Value::Object(map) => Content::Map(
                map.iter()
                    .map(|(name, item)| {
                        let key = Key { name: name.clone(), origin: origin.clone() };
                        (key, Self::from_json(item, origin))
                    })
                    .collect(),
            ),
            scalar => {
                let text = scalar.as_str().map_or_else(|| scalar.to_string(), str::to_owned);
                let style = if scalar.is_string() { Style::Quoted } else { Style::Plain };
                Content::Scalar(Scalar { value: scalar.clone(), raw: None, text, style })
            }
        };
        Self { content, origin: origin.clone() }
    }

    /// Wraps this node in the keys of `path`, whose origin is `key`.
    pub(crate) fn nested(self, path: &str, key: &Origin) -> Self {
        path.rsplit('.').fold(self, |node, name| {
            let key = Key { name: name.to_owned(), origin: key.clone() };
            let origin = node.origin.clone();
            Self { content: Content::Map(vec![(key, node)]), origin }
        })
    }

    /// Sets the origin of this node and all below it.
    pub(crate) fn move_to(&mut self, origin: &Origin) {
        self.origin = origin.clone();
        match &mut self.content {
            Content::Scalar(_) => {}
            Content::List(items) => items.iter_mut().for_each(|item| item.move_to(origin)),
            Content::Map(entries) => {
                for (key, node) in entries {
                    key.origin = origin.clone();
                    node.move_to(origin);
                }
            }
        }
    }

    /// The values, without origins.
    pub(crate) fn to_json(&self) -> Value {
        match &self.content {
            Content::Scalar(scalar) => scalar.value.clone(),
            Content::List(items) => items.iter().map(Self::to_json).collect(),
            Content::Map(entries) => {
                let entries = entries.iter().map(|(key, node)| (key.name.clone(), node.to_json()));
                Value::Object(entries.collect::<Map<_, _>>())
            }
        }
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.content, Content::Scalar(scalar) if scalar.value.is_null())
    }

    /// The node at `a.b.0`.
    pub(crate) fn find(&self, path: &str) -> Option<&Self> {
        if path.is_empty() {
            return Some(self);
        }
        let (first, rest) = path.split_once('.').unwrap_or((path, ""));
        let child = match &self.content {
            Content::Map(entries) => entries.iter().find(|(key, _)| key.name == first).map(|(_, node)| node),
            Content::List(items) => first.parse::<usize>().ok().and_then(|index| items.get(index)),
            Content::Scalar(_) => None,
        };
        child?.find(rest)
    }

    /// The deepest existing node on the path.
    pub(crate) fn nearest(&self, path: &str) -> &Self {
        let mut path = path;
        loop {
            if let Some(node) = self.find(path) {
                return node;
            }
            path = path.rsplit_once('.').map_or("", |(parent, _)| parent);
        }
    }

    /// Merges `over` into this node: maps are merged, anything else is replaced. An empty section
    /// (`training:` with nothing below it) changes nothing.
    pub(crate) fn merge(&mut self, over: Self) {
        match (&mut self.content, over.content) {
            (Content::Map(base), Content::Map(entries)) => {
                let known: HashMap<String, usize> =
                    base.iter().enumerate().map(|(at, (key, _))| (key.name.clone(), at)).collect();
                for (key, node) in entries {
                    match known.get(&key.name).and_then(|at| base.get_mut(*at)) {
                        Some((known, old)) => {
                            // A merged section keeps its first origin.
                            if !matches!(old.content, Content::Map(_)) {
                                *known = key;
                            }
                            old.merge(node);
                        }
                        None => base.push((key, node)),
                    }
                }
            }
            (Content::Map(_), Content::Scalar(scalar)) if scalar.value.is_null() => {}
            (content, other) => {
                *content = other;
                self.origin = over.origin;
            }
        }
    }
}
