//! Checks a value of the right type against the limits of its schema: the range of a number, the length and
//! pattern of a text, the length of a list. For a number also the range of its machine type, which `schemars`
//! writes as a `format`.

use regex::Regex;
use serde_json::Value;

use crate::node::{Content, Node};
use crate::problem::short;
use crate::schema::Schema;

/// Why `node` exceeds the limits of `schema` or its `alternative`, and what to do.
pub(crate) fn exceeded(
    node: &Node,
    schema: Schema<'_>,
    alternative: Schema<'_>,
) -> Option<(String, Option<String>)> {
    let bound = |keyword: &str| {
        let own = schema.get(keyword).or_else(|| alternative.get(keyword));
        own.and_then(Value::as_f64)
    };
    match &node.content {
        Content::List(items) => {
            let message = length(items.len(), "items", bound("minItems"), bound("maxItems"))?;
            Some((message, None))
        }
        Content::Scalar(scalar) => match &scalar.value {
            Value::Number(number) => {
                let number = number.as_f64()?;
                let fits = bound("minimum").is_none_or(|low| number >= low)
                    && bound("maximum").is_none_or(|high| number <= high)
                    && bound("exclusiveMinimum").is_none_or(|low| number > low)
                    && bound("exclusiveMaximum").is_none_or(|high| number < high);
                let range = match machine_range(alternative) {
                    _ if !fits => schema.bounds(&|_| false).unwrap_or_default(),
                    Some((low, _)) if number < low => format!("at least {low}"),
                    Some((_, high)) if number > high => format!("at most {high}"),
                    _ => return None,
                };
                Some((format!("{} is out of range; it must be {range}", short(&scalar.text)), None))
            }
            Value::String(text) => {
                let count = text.chars().count();
                let message = length(count, "characters", bound("minLength"), bound("maxLength"));
                message.map(|message| (message, None)).or_else(|| form(text, schema, alternative))
            }
            _ => None,
        },
        Content::Map(_) => None,
    }
}

/// The range of a 32-bit type. Those of shorter types are in the schema. Those of longer types are not exact
/// as a float, as which numbers are compared, and deserialization refuses what is beyond them.
fn machine_range(schema: Schema<'_>) -> Option<(f64, f64)> {
    match schema.get("format").and_then(Value::as_str)? {
        "uint32" => Some((0.0, u32::MAX.into())),
        "int32" => Some((i32::MIN.into(), i32::MAX.into())),
        _ => None,
    }
}

fn length(count: usize, of: &str, low: Option<f64>, high: Option<f64>) -> Option<String> {
    let length = count as f64;
    match (low.filter(|low| length < *low), high.filter(|high| length > *high)) {
        (Some(_), _) if count == 0 => Some("it is empty, and must not be".to_owned()),
        (Some(low), _) => Some(format!("{count} {of}; at least {low} are needed")),
        (None, Some(high)) => Some(format!("{count} {of}; at most {high} are allowed")),
        (None, None) => None,
    }
}

/// The problem of a text that does not match its `pattern`. A pattern that is no valid regular expression is
/// ignored.
fn form(text: &str, schema: Schema<'_>, alternative: Schema<'_>) -> Option<(String, Option<String>)> {
    let pattern = schema.get("pattern").or_else(|| alternative.get("pattern"))?.as_str()?;
    let regex = Regex::new(pattern).ok()?;
    if regex.is_match(text) {
        return None;
    }
    // The documentation of a type describes its values, that of a key its purpose.
    let said = alternative.description().filter(|said| schema.description() != Some(said));
    let help = said.map_or_else(|| format!("it must match `{pattern}`"), |said| format!("it takes {said}"));
    Some((format!("`{}` is not of the form that is expected", short(text)), Some(help)))
}
