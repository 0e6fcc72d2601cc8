//! Where a model directory keeps its chat template, and the mark for the assistant's part of one.
//!
//! `{% generation %}` is an extension that `transformers` adds to Jinja. The engine here takes no new tags, so
//! the tags are replaced by private marks in the output before the template is compiled.

use std::path::Path;

use serde_json::Value;

use crate::template::TemplateError;
use crate::tokenizer::{json_object, read_limited};

/// Before the assistant's part, in the output: noncharacter-free private code points that no text should hold.
pub(crate) const BEGIN: &str = "\u{F0A10}\u{10A10}\u{F0A11}";
/// After it.
pub(crate) const END: &str = "\u{F0A12}\u{10A12}\u{F0A13}";

/// The template of a model directory: `chat_template.jinja`, else `chat_template.json`, else the one in
/// `tokenizer_config.json`; from a list of named ones, `default` (or the only one).
///
/// # Errors
/// [`TemplateError::Source`] when a file that should hold it cannot be read.
pub(crate) fn find(directory: &Path) -> Result<Option<String>, TemplateError> {
    let wrong = |error: crate::TokenizerError| TemplateError::Source(error.to_string());
    let jinja = directory.join("chat_template.jinja");
    if jinja.is_file() {
        let bytes = read_limited(&jinja).map_err(wrong)?;
        let text = String::from_utf8(bytes)
            .map_err(|error| TemplateError::Source(format!("{}: {error}", jinja.display())))?;
        return Ok(Some(text));
    }
    for name in ["chat_template.json", "tokenizer_config.json"] {
        let path = directory.join(name);
        if !path.is_file() {
            continue;
        }
        match json_object(&path).map_err(wrong)?.get("chat_template") {
            None | Some(Value::Null) => {}
            Some(Value::String(template)) => return Ok(Some(template.clone())),
            Some(Value::Array(named)) => {
                let is_default =
                    |entry: &&Value| entry.get("name").and_then(Value::as_str) == Some("default");
                let entry = named.iter().find(is_default).or_else(|| named.first());
                match entry.and_then(|entry| entry.get("template")).and_then(Value::as_str) {
                    Some(template) => return Ok(Some(template.to_owned())),
                    None => {
                        let why = "`chat_template` is a list without a usable template";
                        return Err(TemplateError::Source(format!("{}: {why}", path.display())));
                    }
                }
            }
            Some(_) => {
                let why = "`chat_template` is neither a text nor a list of templates";
                return Err(TemplateError::Source(format!("{}: {why}", path.display())));
            }
        }
    }
    Ok(None)
}

/// Replaces the `generation` tags by marks, keeping their white-space control; tells whether there were any.
pub(crate) fn mark_generation(source: &str) -> (String, bool) {
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
