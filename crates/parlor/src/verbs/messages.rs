//! Files with messages and tools, for `render` and `generate`.

use std::path::Path;

use parlor::text::Message;
use serde_json::Value;

use crate::failure::Failure;

/// A conversation, and the tools it may use.
pub(super) struct Conversation {
    pub(super) messages: Vec<Message>,
    pub(super) tools: Option<Vec<Value>>,
}

/// Reads a list of messages, or an object with `messages` and perhaps `tools`.
pub(super) fn read(path: &Path) -> Result<Conversation, Failure> {
    let wrong = |why: String| Failure::input(format!("{}: {why}", path.display()));
    let (list, tools) = match json_file(path)? {
        Value::Array(list) => (list, None),
        Value::Object(mut map) => {
            let Some(Value::Array(list)) = map.remove("messages") else {
                return Err(wrong("an object with a list `messages` was expected".to_owned()));
            };
            let tools = match map.remove("tools") {
                None | Some(Value::Null) => None,
                Some(Value::Array(tools)) => Some(tools),
                Some(_) => return Err(wrong("`tools` is not a list".to_owned())),
            };
            (list, tools)
        }
        _ => return Err(wrong("a list of messages was expected".to_owned())),
    };
    let messages = list
        .into_iter()
        .enumerate()
        .map(|(index, value)| {
            Message::from_value(value).map_err(|why| wrong(format!("message {index} {why}")))
        })
        .collect::<Result<_, _>>()?;
    Ok(Conversation { messages, tools })
}

/// Reads a list of tools' schemas.
pub(super) fn read_tools(path: &Path) -> Result<Vec<Value>, Failure> {
    match json_file(path)? {
        Value::Array(tools) => Ok(tools),
        _ => Err(Failure::input(format!("{}: a list of tools was expected", path.display()))),
    }
}

fn json_file(path: &Path) -> Result<Value, Failure> {
    let bytes = read_file(path)?;
    serde_json::from_slice(bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&bytes))
        .map_err(|error| Failure::input(format!("{}: not valid JSON: {error}", path.display())))
}

/// Reads a file.
pub(super) fn read_file(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|error| Failure::input(format!("{}: {error}", path.display())))
}

/// Reads a UTF-8 file, without a byte-order mark.
pub(super) fn read_text(path: &Path) -> Result<String, Failure> {
    let text = String::from_utf8(read_file(path)?).map_err(|error| {
        let line = 1 + error.as_bytes()[..error.utf8_error().valid_up_to()]
            .iter()
            .filter(|&&byte| byte == b'\n')
            .count();
        Failure::input_help(
            format!("{}:{line}: not valid UTF-8", path.display()),
            "save the file as UTF-8 (`iconv -t UTF-8` converts it)",
        )
    })?;
    Ok(text.strip_prefix('\u{FEFF}').map(str::to_owned).unwrap_or(text))
}
