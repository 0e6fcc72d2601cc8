//! Reading `generation_config.json` as leniently as transformers does: a file that is empty or no JSON counts
//! as absent, and the numbers that Python's `json` writes beyond JSON (`-Infinity` as a bias, say) are read.

use std::path::Path;

use serde_json::{Map, Value};

use super::lfs;
use crate::error::ModelLoadError;

/// The contents of a generation config.
pub(crate) struct GenerationFile {
    /// Its keys; `None` when there is no readable file.
    pub(crate) map: Option<Map<String, Value>>,
    /// Why a file that exists counts as absent.
    pub(crate) warning: Option<String>,
}

/// Reads the file at `path`.
///
/// # Errors
/// When the file exists and cannot be read.
pub(crate) fn read(path: &Path) -> Result<GenerationFile, ModelLoadError> {
    if !path.is_file() {
        return Ok(GenerationFile { map: None, warning: None });
    }
    let bytes = std::fs::read(path).map_err(|error| ModelLoadError::reading(path, &error))?;
    lfs::refuse(path, &bytes)?;
    let without = |why: String| {
        let warning = format!(
            "{}: {why}; the generation settings of config.json are used instead, as if there were no such file",
            path.display()
        );
        Ok(GenerationFile { map: None, warning: Some(warning) })
    };
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    let Ok(text) = std::str::from_utf8(bytes) else {
        return without("the file is not valid UTF-8".to_owned());
    };
    if text.trim().is_empty() {
        return without("the file is empty".to_owned());
    }
    match serde_json::from_str(&finite(text)) {
        Ok(Value::Object(map)) => Ok(GenerationFile { map: Some(map), warning: None }),
        Ok(_) => without("this is not a JSON object".to_owned()),
        Err(error) => without(format!("this is not valid JSON: {error}")),
    }
}

/// `text` with Python's `NaN` as null and its infinities as the largest doubles, which become infinite as
/// floats.
fn finite(text: &str) -> String {
    const WORDS: [(&str, &str); 3] =
        [("-Infinity", "-1.7976931348623157e308"), ("Infinity", "1.7976931348623157e308"), ("NaN", "null")];
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let (mut in_string, mut escaped) = (false, false);
    while let Some(next) = rest.chars().next() {
        if !in_string && let Some((word, number)) = WORDS.iter().find(|(word, _)| rest.starts_with(word)) {
            out.push_str(number);
            rest = &rest[word.len()..];
            continue;
        }
        in_string ^= next == '"' && !escaped;
        escaped = in_string && next == '\\' && !escaped;
        out.push(next);
        rest = &rest[next.len_utf8()..];
    }
    out
}
