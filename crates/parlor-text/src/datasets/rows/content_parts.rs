//! Message content as a list of parts (OpenAI's): text parts are joined to one text, as templates that read
//! parts write them. Parts of other types are refused, because they would not be trained.

use serde_json::{Map, Value};

use crate::json_value::{is_nothing, kind};

/// Replaces the parts of a message's content by their text.
///
/// # Errors
/// What is wrong with it, as the end of a sentence that names the message.
pub(super) fn joined(message: &mut Map<String, Value>) -> Result<(), String> {
    let Some(Value::Array(parts)) = message.get("content") else { return Ok(()) };
    let texts = parts.iter().enumerate().map(|(index, part)| text(part).map_err(|why| (index, why)));
    let text = texts.collect::<Result<String, _>>().map_err(|(index, why)| {
        format!("has {why} as `content[{index}]`; a part of text was expected: {{\"type\": \"text\", \"text\": ...}}")
    })?;
    message.insert("content".to_owned(), text.into());
    Ok(())
}

fn text(part: &Value) -> Result<&str, String> {
    let Value::Object(map) = part else {
        return part.as_str().ok_or_else(|| kind(part).to_owned());
    };
    match map.get("type") {
        None | Some(Value::Null) => {}
        Some(Value::String(name)) if ["text", "input_text", "output_text"].contains(&name.as_str()) => {}
        Some(Value::String(name)) => return Err(format!("a part of type `{name}`")),
        Some(_) => return Err("a part whose `type` is not a text".to_owned()),
    }
    let more = |(key, value): &(&String, &Value)| {
        // `cache_control` and the like do not change the text.
        !["type", "text", "cache_control", "annotations"].contains(&key.as_str()) && !is_nothing(value)
    };
    if let Some((key, _)) = map.iter().find(more) {
        return Err(format!("a part with `{key}`"));
    }
    map.get("text").and_then(Value::as_str).ok_or_else(|| "a part without `text`".to_owned())
}
