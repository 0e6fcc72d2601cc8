//! Where a model directory keeps its chat template, and the mark for the assistant's part of one.
//!
//! `{% generation %}` is an extension that `transformers` adds to Jinja. The engine here takes no new tags, so
//! the tags are replaced by private marks in the output before the template is compiled.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::template::TemplateError;
use crate::tokenizer::{json_object, read_limited};

/// Before the assistant's part, in the output: noncharacter-free private code points that no text should hold.
pub(crate) const BEGIN: &str = "\u{F0A10}\u{10A10}\u{F0A11}";
/// After it.
pub(crate) const END: &str = "\u{F0A12}\u{10A12}\u{F0A13}";

/// Where `transformers` keeps the template of conversations without tools, and the one for those with tools.
pub(crate) const DEFAULT_FILE: &str = "chat_template.jinja";
pub(crate) const TOOL_USE_FILE: &str = "additional_chat_templates/tool_use.jinja";

/// A model's templates by their use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// For conversations without tools, and for all where there is no other.
    pub default: String,
    /// For conversations with tools.
    pub tool_use: Option<String>,
}

impl Named {
    /// Of templates by name. One alone serves everything, whatever its name.
    fn of(named: Vec<(String, String)>) -> Result<Option<Self>, String> {
        let find = |name: &str| named.iter().find(|(own, _)| own == name).map(|(_, source)| source.clone());
        match (find("default"), find("tool_use"), &named[..]) {
            (_, _, []) => Ok(None),
            (Some(default), tool_use, _) => Ok(Some(Self { default, tool_use })),
            (None, _, [(_, only)]) => Ok(Some(Self { default: only.clone(), tool_use: None })),
            _ => {
                let names: Vec<&str> = named.iter().map(|(name, _)| name.as_str()).collect();
                Err(format!("none of the chat templates [{}] is called `default`", names.join(", ")))
            }
        }
    }
}

/// The templates of a model directory: `chat_template.jinja` and `additional_chat_templates/`, else those in
/// `tokenizer_config.json`, else `chat_template.json`.
///
/// # Errors
/// [`TemplateError::Source`] when a file that should hold one cannot be read.
pub(crate) fn find(directory: &Path) -> Result<Option<Named>, TemplateError> {
    let jinja = directory.join(DEFAULT_FILE);
    let mut named = Vec::new();
    if jinja.is_file() {
        named.push(("default".to_owned(), text_file(&jinja)?));
    }
    for (name, path) in additional(directory)? {
        named.push((name, text_file(&path)?));
    }
    let own = |path: &Path, why: String| TemplateError::Source(format!("{}: {why}", path.display()));
    if let Some(found) = Named::of(named).map_err(|why| own(directory, why))? {
        return Ok(Some(found));
    }
    for name in ["tokenizer_config.json", "chat_template.json"] {
        let path = directory.join(name);
        if !path.is_file() {
            continue;
        }
        let map = json_object(&path).map_err(|error| TemplateError::Source(error.to_string()))?;
        let found = match map.get("chat_template") {
            None | Some(Value::Null) => Ok(None),
            Some(value) => from_config(value),
        };
        if let Some(found) = found.map_err(|why| own(&path, why))? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// `chat_template` of a configuration: a text, or a list of named ones.
fn from_config(value: &Value) -> Result<Option<Named>, String> {
    match value {
        Value::String(template) => Ok(Some(Named { default: template.clone(), tool_use: None })),
        Value::Array(list) => {
            let entry = |entry: &Value| {
                let text = |key: &str| Some(entry.get(key)?.as_str()?.to_owned());
                Some((text("name")?, text("template")?))
            };
            let named: Option<Vec<_>> = list.iter().map(entry).collect();
            Named::of(
                named.ok_or("`chat_template` is a list of which an entry has no `name` and `template`")?,
            )
        }
        Value::Object(map) => {
            let entry = |(name, value): (&String, &Value)| Some((name.clone(), value.as_str()?.to_owned()));
            let named: Option<Vec<_>> = map.iter().map(entry).collect();
            Named::of(named.ok_or("`chat_template` is an object of which an entry is no text")?)
        }
        _ => Err("`chat_template` is neither a text nor a list of templates".to_owned()),
    }
}

fn text_file(path: &Path) -> Result<String, TemplateError> {
    let bytes = read_limited(path).map_err(|error| TemplateError::Source(error.to_string()))?;
    String::from_utf8(bytes).map_err(|error| TemplateError::Source(format!("{}: {error}", path.display())))
}

/// The files of `additional_chat_templates/`, by name.
fn additional(directory: &Path) -> Result<Vec<(String, PathBuf)>, TemplateError> {
    let folder = directory.join("additional_chat_templates");
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let failed = |error: std::io::Error| TemplateError::Source(format!("{}: {error}", folder.display()));
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if let Some(name) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".jinja")) {
            found.push((name.to_owned(), path.clone()));
        }
    }
    found.sort();
    Ok(found)
}

/// A source with the line ends that Jinja2 makes of all others.
pub(crate) fn normalized(source: &str) -> String {
    source.replace("\r\n", "\n").replace('\r', "\n")
}

/// What becomes of `{% generation %}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Generation {
    Marked,
    Ignored,
}

/// Replaces the `generation` tags by marks or by nothing, keeping their white-space control; tells whether there were
/// any.
pub(crate) fn mark_generation(source: &str, generation: Generation) -> (String, bool) {
    let (mut out, mut rest, mut found) = (String::with_capacity(source.len()), source, false);
    while let Some(start) = rest.find("{%") {
        let Some(length) = rest[start + 2..].find("%}").map(|at| at + 2) else { break };
        let tag = &rest[start..start + length + 2];
        let inner = &tag[2..tag.len() - 2];
        let (left, inner) = control(inner, true);
        let (right, inner) = control(inner, false);
        let mark = match inner.trim() {
            "generation" => Some(BEGIN),
            "endgeneration" => Some(END),
            _ => None,
        };
        out.push_str(&rest[..start]);
        match mark {
            // Two tags around the mark, so that each side keeps its own control over the white space beside it.
            Some(mark) => {
                found = true;
                let mark = if generation == Generation::Marked { mark } else { "" };
                out.push_str(&format!("{{%{left} if true %}}{mark}{{% endif {right}%}}"));
            }
            None => out.push_str(tag),
        }
        rest = &rest[start + length + 2..];
    }
    out.push_str(rest);
    (out, found)
}

/// Splits a white-space control sign off one end of a tag's inside.
fn control(inner: &str, leading: bool) -> (&str, &str) {
    for sign in ["-", "+"] {
        let stripped = if leading { inner.strip_prefix(sign) } else { inner.strip_suffix(sign) };
        if let Some(rest) = stripped {
            return (sign, rest);
        }
    }
    ("", inner)
}
