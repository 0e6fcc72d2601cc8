//! The chat templates of a model directory.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::error::TemplateError;
use crate::tokenizer::{json_object, read_limited};

/// Files in which `transformers` keeps the template of conversations without tools, and that of conversations
/// with tools.
pub(super) const DEFAULT_FILE: &str = "chat_template.jinja";
pub(super) const TOOL_USE_FILE: &str = "additional_chat_templates/tool_use.jinja";

/// The templates of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedTemplates {
    /// For conversations without tools, and for all conversations when there is no other.
    pub default: String,
    /// For conversations with tools.
    pub tool_use: Option<String>,
}

impl NamedTemplates {
    /// Chooses among templates by name. A single template serves everything, whatever its name.
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
pub(super) fn find(directory: &Path) -> Result<Option<NamedTemplates>, TemplateError> {
    let jinja = directory.join(DEFAULT_FILE);
    let mut named = Vec::new();
    if jinja.is_file() {
        named.push(("default".to_owned(), text_file(&jinja)?));
    }
    for (name, path) in additional(directory)? {
        named.push((name, text_file(&path)?));
    }
    let own = |path: &Path, why: String| TemplateError::Source(format!("{}: {why}", path.display()));
    if let Some(found) = NamedTemplates::of(named).map_err(|why| own(directory, why))? {
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
fn from_config(value: &Value) -> Result<Option<NamedTemplates>, String> {
    match value {
        Value::String(template) => Ok(Some(NamedTemplates { default: template.clone(), tool_use: None })),
        Value::Array(list) => {
            let entry = |entry: &Value| {
                let text = |key: &str| Some(entry.get(key)?.as_str()?.to_owned());
                Some((text("name")?, text("template")?))
            };
            let named: Option<Vec<_>> = list.iter().map(entry).collect();
            NamedTemplates::of(
                named.ok_or("`chat_template` is a list of which an entry has no `name` and `template`")?,
            )
        }
        Value::Object(map) => {
            let entry = |(name, value): (&String, &Value)| Some((name.clone(), value.as_str()?.to_owned()));
            let named: Option<Vec<_>> = map.iter().map(entry).collect();
            NamedTemplates::of(named.ok_or("`chat_template` is an object of which an entry is no text")?)
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
