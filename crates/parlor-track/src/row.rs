//! One logged step: its number and its metrics, and its form as a line of `metrics.jsonl`.
//!
//! JSON has no NaN and no infinity. Such a value is written as `null`, with its text in a second field:
//! `"loss": null, "loss_text": "NaN"` (or `"Infinity"`, `"-Infinity"`), so that every JSON reader accepts the
//! line and nothing is lost.

use serde_json::{Map, Value};

use crate::error::TrackError;

/// Suffix of the field with the text of a `null`.
const TEXT: &str = "_text";

/// A metric's value.
#[derive(Clone, Debug, PartialEq)]
pub enum MetricValue {
    /// A count.
    Integer(i64),
    /// A measure; may be NaN or infinite.
    Float(f64),
    /// A text. Local files keep it; trackers that only take numbers leave it out.
    Text(String),
}

impl MetricValue {
    /// The number, unless it is a text.
    pub fn number(&self) -> Option<f64> {
        match self {
            Self::Integer(value) => Some(*value as f64),
            Self::Float(value) => Some(*value),
            Self::Text(_) => None,
        }
    }
}

impl From<f64> for MetricValue {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}

impl From<u64> for MetricValue {
    fn from(value: u64) -> Self {
        i64::try_from(value).map_or(Self::Float(value as f64), Self::Integer)
    }
}

/// The metrics of one step.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Steps done.
    pub step: u64,
    /// Names and values, in the order in which they are written. No name is `step`.
    pub metrics: Vec<(String, MetricValue)>,
}

impl Row {
    /// A row without metrics.
    pub fn new(step: u64) -> Self {
        Self { step, metrics: Vec::new() }
    }

    /// Adds a metric.
    pub fn with(mut self, name: &str, value: impl Into<MetricValue>) -> Self {
        self.metrics.push((name.to_owned(), value.into()));
        self
    }

    /// The number of a metric.
    pub fn number(&self, name: &str) -> Option<f64> {
        self.metrics.iter().find(|(key, _)| key == name)?.1.number()
    }

    /// Reads a row from a JSON object with a `step`. A `null` without a text field is NaN, which `serde_json`
    /// writes as `null`.
    ///
    /// # Errors
    /// When `step` is missing or not a whole number, or a value is not a number, a text or null.
    pub fn from_json(object: &Map<String, Value>) -> Result<Self, TrackError> {
        let step = object
            .get("step")
            .and_then(Value::as_u64)
            .ok_or_else(|| TrackError::Row("`step` is missing or not a whole number".to_owned()))?;
        let mut metrics = Vec::with_capacity(object.len());
        for (name, value) in object.iter().filter(|(name, _)| *name != "step") {
            let value = match value {
                Value::Number(number) => match number.as_i64() {
                    Some(integer) => MetricValue::Integer(integer),
                    None => MetricValue::Float(number.as_f64().unwrap_or(f64::NAN)),
                },
                Value::Null => MetricValue::Float(text_beside(object, name).unwrap_or(f64::NAN)),
                Value::String(_) if explains_null(object, name) => continue,
                Value::String(text) => MetricValue::Text(text.clone()),
                other => {
                    let problem = format!("`{name}` is {other}; expected a number, a text or null");
                    return Err(TrackError::Row(problem));
                }
            };
            metrics.push((name.clone(), value));
        }
        Ok(Self { step, metrics })
    }

    /// The row as a JSON object, `step` first.
    pub fn to_json(&self) -> Map<String, Value> {
        let mut object = Map::new();
        object.insert("step".to_owned(), self.step.into());
        for (name, value) in self.metrics.iter().filter(|(name, _)| name != "step") {
            let json = match value {
                MetricValue::Integer(value) => (*value).into(),
                MetricValue::Float(value) => Value::from(*value),
                MetricValue::Text(text) => text.clone().into(),
            };
            object.insert(name.clone(), json);
            if let MetricValue::Float(value) = value
                && !value.is_finite()
            {
                object.insert(format!("{name}{TEXT}"), non_finite_text(*value).into());
            }
        }
        object
    }

    /// One line, newline included.
    pub(crate) fn to_line(&self) -> String {
        let mut line = Value::Object(self.to_json()).to_string();
        line.push('\n');
        line
    }
}

fn non_finite_text(value: f64) -> &'static str {
    if value.is_nan() {
        "NaN"
    } else if value > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
    }
}

fn text_beside(object: &Map<String, Value>, name: &str) -> Option<f64> {
    match object.get(&format!("{name}{TEXT}"))?.as_str()? {
        "NaN" => Some(f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        _ => None,
    }
}

/// Whether `name` is the text field of a metric that is null.
fn explains_null(object: &Map<String, Value>, name: &str) -> bool {
    name.strip_suffix(TEXT).is_some_and(|metric| {
        object.get(metric) == Some(&Value::Null) && text_beside(object, metric).is_some()
    })
}
