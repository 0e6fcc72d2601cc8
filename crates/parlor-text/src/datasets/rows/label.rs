//! The label of unpaired preferences: whether a completion is desirable. Also as pandas, spreadsheets and
//! Python write it.

use serde_json::Value;

use super::column_names::LABEL;
use crate::json_value::kind;

/// The value of a label: a boolean, 1 or 0 (also as a float), one of these as a text, or yes or no.
pub(super) fn desirable(label: Option<&Value>) -> Result<bool, String> {
    let desirable = match label {
        Some(Value::Bool(label)) => Some(*label),
        Some(Value::Number(label)) => match label.as_f64() {
            Some(1.0) => Some(true),
            Some(0.0) => Some(false),
            _ => None,
        },
        Some(Value::String(text)) => match text.trim().to_ascii_lowercase().as_str() {
            "true" | "yes" | "1" | "1.0" => Some(true),
            "false" | "no" | "0" | "0.0" => Some(false),
            _ => None,
        },
        _ => None,
    };
    let found = match label {
        None => return Err(format!("`{LABEL}` is missing")),
        Some(Value::Null) => "empty".to_owned(),
        Some(Value::String(text)) => format!("the text {text:?}"),
        Some(Value::Number(number)) => number.to_string(),
        Some(other) => kind(other).to_owned(),
    };
    desirable.ok_or_else(|| {
        format!(
            "`{LABEL}` is {found}; true or false was expected, or 1 or 0 (where it does not say whether the answer \
             is wanted, set `data.kind`, or `kind` of the data set, to what the rows are)"
        )
    })
}
