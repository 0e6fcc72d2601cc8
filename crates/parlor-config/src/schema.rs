//! Reading a JSON Schema (draft 2020-12, as `schemars` writes it): the one description of types, ranges and
//! documentation that validation, `explain` and the generators share.

use serde_json::Value;

use crate::node::join;

/// A schema with the definitions that it refers to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schema<'a> {
    root: &'a Value,
    at: &'a Value,
}

impl<'a> Schema<'a> {
    pub(crate) fn root(root: &'a Value) -> Self {
        Self { root, at: root }
    }

    fn with(self, at: &'a Value) -> Self {
        Self { root: self.root, at }
    }

    /// Follows `$ref`.
    pub(crate) fn resolved(self) -> Self {
        let mut schema = self;
        // Bounds circular references; real chains are short.
        for _ in 0..16 {
            let Some(reference) = schema.at.get("$ref").and_then(Value::as_str) else { return schema };
            let Some(at) = reference.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer)) else {
                return schema;
            };
            schema = self.with(at);
        }
        schema
    }

    /// The documentation: of the key, else of its type.
    pub(crate) fn description(self) -> Option<&'a str> {
        let own = self.at.get("description").and_then(Value::as_str);
        own.or_else(|| self.resolved().at.get("description").and_then(Value::as_str))
    }

    pub(crate) fn get(self, keyword: &str) -> Option<&'a Value> {
        self.at.get(keyword).or_else(|| self.resolved().at.get(keyword))
    }

    /// Names and schemas of a section's keys, in order; also of one that may be absent.
    pub(crate) fn properties(self) -> Vec<(&'a str, Schema<'a>)> {
        let is_section = |schema: &Self| schema.types_of_one() != ["null"];
        let sections: Vec<Self> = self.alternatives().into_iter().filter(is_section).collect();
        let [section] = sections.as_slice() else { return Vec::new() };
        let map = section.at.get("properties").and_then(Value::as_object);
        map.into_iter().flatten().map(|(name, at)| (name.as_str(), self.with(at))).collect()
    }

    pub(crate) fn property(self, name: &str) -> Option<Self> {
        Some(self.with(self.resolved().at.get("properties")?.get(name)?))
    }

    /// Schema of keys that are not listed: `None` when they are not allowed.
    pub(crate) fn additional(self) -> Option<Self> {
        match self.resolved().at.get("additionalProperties") {
            Some(Value::Bool(false)) => None,
            Some(at) => Some(self.with(at)),
            // A schema without the keyword allows anything.
            None => Some(self.with(&Value::Bool(true))),
        }
    }

    pub(crate) fn items(self) -> Option<Self> {
        Some(self.with(self.resolved().at.get("items")?))
    }

    /// The schema of the list's item at `index`: a tuple's are described one by one.
    pub(crate) fn item(self, index: usize) -> Option<Self> {
        let own = self.resolved().at.get("prefixItems").and_then(|items| items.get(index));
        own.map(|at| self.with(at)).or_else(|| self.items())
    }

    /// Keys that must be there.
    pub(crate) fn required(self) -> Vec<&'a str> {
        let names = self.resolved().at.get("required").and_then(Value::as_array);
        names.into_iter().flatten().filter_map(Value::as_str).collect()
    }

    /// The schema of a list's items, in any alternative.
    pub(crate) fn element(self) -> Option<Self> {
        self.alternatives().into_iter().find_map(Self::items)
    }

    /// The schema of one key, in any alternative.
    pub(crate) fn find_child(self, name: &str) -> Option<Self> {
        self.alternatives()
            .into_iter()
            .find_map(|schema| schema.property(name).or_else(|| schema.map_values()))
    }

    /// Whether anything is allowed.
    pub(crate) fn is_free(self) -> bool {
        match self.resolved().at {
            Value::Bool(allowed) => *allowed,
            Value::Object(map) => !map.keys().any(|key| {
                matches!(key.as_str(), "type" | "enum" | "const" | "anyOf" | "oneOf" | "allOf" | "properties")
            }),
            _ => true,
        }
    }

    /// The alternatives of `anyOf` or `oneOf`; the schema itself when there are none.
    pub(crate) fn alternatives(self) -> Vec<Self> {
        let schema = self.resolved();
        for keyword in ["anyOf", "oneOf"] {
            if let Some(list) = schema.at.get(keyword).and_then(Value::as_array) {
                return list.iter().flat_map(|at| self.with(at).resolved().alternatives()).collect();
            }
        }
        vec![schema]
    }

    /// Whether null is a value, other than an absent section.
    pub(crate) fn takes_null(self) -> bool {
        self.types().contains(&"null")
    }

    /// JSON types that are allowed, alternatives included; empty when anything is.
    pub(crate) fn types(self) -> Vec<&'a str> {
        let mut types = Vec::new();
        for schema in self.alternatives() {
            for name in schema.types_of_one() {
                if !types.contains(&name) {
                    types.push(name);
                }
            }
        }
        types
    }

    /// Whether any text is allowed, listed or not.
    pub(crate) fn takes_any_text(self) -> bool {
        self.alternatives().iter().any(|schema| {
            let listed = schema.at.get("const").is_some() || schema.at.get("enum").is_some();
            !listed && schema.types_of_one().contains(&"string")
        })
    }

    fn types_of_one(self) -> Vec<&'a str> {
        match self.at.get("type") {
            Some(Value::String(name)) => vec![name.as_str()],
            Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
            _ if self.at.get("const").is_some_and(Value::is_string) => vec!["string"],
            _ => Vec::new(),
        }
    }

    /// Values that are listed, with the documentation of each; empty when any value of the type is allowed.
    pub(crate) fn choices(self) -> Vec<(&'a str, Option<&'a str>)> {
        let mut choices = Vec::new();
        for schema in self.alternatives() {
            let documentation = schema.at.get("description").and_then(Value::as_str);
            if let Some(value) = schema.at.get("const").and_then(Value::as_str) {
                choices.push((value, documentation));
            }
            let listed = schema.at.get("enum").and_then(Value::as_array);
            choices.extend(listed.into_iter().flatten().filter_map(Value::as_str).map(|value| (value, None)));
        }
        choices
    }

    /// The schema of the key `path`, list indexes skipped; `None` when there is no such key.
    pub(crate) fn find(self, path: &str) -> Option<Self> {
        if path.is_empty() {
            return Some(self);
        }
        let (first, rest) = path.split_once('.').unwrap_or((path, ""));
        // Below a key that takes anything, anything is a key.
        if self.is_free() {
            return Some(self);
        }
        for schema in self.alternatives() {
            let child = schema.property(first).or_else(|| {
                let is_index = first.parse::<usize>().is_ok();
                if is_index && schema.items().is_some() { schema.items() } else { schema.map_values() }
            });
            if let Some(found) = child.and_then(|child| child.find(rest)) {
                return Some(found);
            }
        }
        None
    }

    /// Schema of a free map's values.
    fn map_values(self) -> Option<Self> {
        let is_object = self.at.get("type").and_then(Value::as_str) == Some("object");
        if is_object && self.at.get("properties").is_none() { self.additional() } else { None }
    }

    /// Every key that has a value (not a section), depth first.
    pub(crate) fn leaves(self, prefix: &str) -> Vec<(String, Schema<'a>)> {
        let mut leaves = Vec::new();
        for (name, child) in self.properties() {
            let path = join(prefix, name);
            if child.properties().is_empty() {
                leaves.push((path, child));
            } else {
                leaves.extend(child.leaves(&path));
            }
        }
        leaves
    }

    /// Every key, sections included.
    pub(crate) fn paths(self, prefix: &str) -> Vec<String> {
        let mut paths = Vec::new();
        for (name, child) in self.properties() {
            let path = join(prefix, name);
            let below = child.paths(&path);
            paths.push(path);
            paths.extend(below);
        }
        paths
    }

    /// A number that the key itself or one of its alternatives names: `minimum`, `maxLength`.
    pub(crate) fn bound(self, keyword: &str) -> Option<f64> {
        let schemas = std::iter::once(self).chain(self.alternatives());
        schemas.filter_map(|schema| schema.at.get(keyword)).find_map(Value::as_f64)
    }

    /// The range as text: `above 0`, `1 to 65535`; `None` when there is none.
    pub(crate) fn range(self) -> Option<String> {
        // The range of the machine type itself says nothing to a user.
        let low = self.bound("minimum");
        self.bounds(&|high| high >= f64::from(u32::MAX) || high == 255.0 && low == Some(0.0))
    }

    /// The range as text, without a maximum that is `hidden`.
    pub(crate) fn bounds(self, hidden: &dyn Fn(f64) -> bool) -> Option<String> {
        let find = |keyword: &str| self.bound(keyword);
        let low = find("minimum").map(|x| format!("at least {x}"));
        let low = find("exclusiveMinimum").map(|x| format!("above {x}")).or(low);
        let high = find("maximum").filter(|x| !hidden(*x)).map(|x| format!("at most {x}"));
        let high = find("exclusiveMaximum").map(|x| format!("below {x}")).or(high);
        match (low, high) {
            (Some(low), Some(high)) => Some(format!("{low}, {high}")),
            (low, high) => low.or(high),
        }
    }
}
