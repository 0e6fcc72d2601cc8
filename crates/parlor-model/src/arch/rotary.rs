//! Rotary settings of a `config.json`, in the spellings that transformers accepts, and back.
//!
//! Source: `RotaryEmbeddingConfigMixin.convert_rope_params_to_dict` and `standardize_rope_params` in
//! `modeling_rope_utils.py` of transformers 5.23. `rope_scaling` (the old name) counts before
//! `rope_parameters` as a whole, unless it is empty; theta is the one inside the section that counts, then
//! the top-level `rope_theta`, then 10000. Both spellings are written, because transformers 4 takes theta
//! 10000 from a file that has only the new one. Leaves out: YaRN, dynamic and long scaling, settings by layer
//! type, rotation of parts of heads, which are refused.

use serde_json::{Map, Value, json};

use super::hf_config::HfConfig;
use crate::config::{DecoderConfig, Rope, RopeScaling};
use crate::error::ModelLoadError;

/// The old name of the section, which counts first.
const OLD: &str = "rope_scaling";
/// The new name.
const NEW: &str = "rope_parameters";
/// Theta of a file that names none, in every family.
const DEFAULT_THETA: f64 = 10_000.0;
const SUPPORTED: &str = "`default`, `linear` and `llama3`";

/// Whether Python takes the value for false: such a section counts as absent.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::Bool(true) => false,
    }
}

/// The section that counts.
fn section<'a>(config: &HfConfig<'a>) -> Result<Option<HfConfig<'a>>, ModelLoadError> {
    match [OLD, NEW].into_iter().find(|key| config.get(key).is_some_and(|value| !is_empty(value))) {
        Some(key) => config.section(key),
        None => Ok(None),
    }
}

/// A number above zero; `null` is an error, because transformers takes it for the value and fails.
fn theta(config: &HfConfig<'_>) -> Result<Option<f64>, ModelLoadError> {
    if config.is_null("rope_theta") {
        return Err(config.wrong("rope_theta", "a number above 0", &Value::Null));
    }
    config.optional_positive("rope_theta")
}

/// Reads the settings; `context` is the longest sequence.
pub(super) fn read(config: &HfConfig<'_>, context: usize) -> Result<Rope, ModelLoadError> {
    let section = section(config)?;
    let inner = match &section {
        Some(section) => theta(section)?,
        None => None,
    };
    let theta = match inner {
        Some(theta) => theta,
        None => theta(config)?.unwrap_or(DEFAULT_THETA),
    };
    for scope in [Some(config), section.as_ref()].into_iter().flatten() {
        if let Some(factor) = scope.optional_positive("partial_rotary_factor")?
            && factor != 1.0
        {
            let supported = "rotation of whole heads";
            return Err(scope.unsupported("partial_rotary_factor", &json!(factor), supported));
        }
    }
    let Some(section) = section else {
        return Ok(Rope { theta, scaling: RopeScaling::Default });
    };
    if let Some((key, _)) = section.map.iter().find(|(_, value)| value.is_object()) {
        return Err(section.unsupported(key, &json!({}), "one rotary setting for all layers"));
    }
    let (key, kind) = kind(&section)?;
    let scaling = match kind {
        "default" => RopeScaling::Default,
        "linear" => RopeScaling::Linear { factor: section.positive("factor")? },
        "llama3" => by_wavelength(config, &section, context)?,
        other => return Err(section.unsupported(key, &json!(other), SUPPORTED)),
    };
    Ok(Rope { theta, scaling })
}

/// The kind of scaling, and the key that names it: `rope_type` before `type`.
fn kind<'a>(section: &HfConfig<'a>) -> Result<(&'static str, &'a str), ModelLoadError> {
    if section.is_null("rope_type") {
        return Err(section.wrong("rope_type", &format!("one of {SUPPORTED}"), &Value::Null));
    }
    for key in ["rope_type", "type"] {
        if let Some(kind) = section.optional_text(key)? {
            return Ok((key, kind));
        }
    }
    Ok(("rope_type", "default"))
}

/// Llama 3.1's. The length before stretching stands in the section, or in `config`, which counts first.
fn by_wavelength(
    config: &HfConfig<'_>,
    section: &HfConfig<'_>,
    context: usize,
) -> Result<RopeScaling, ModelLoadError> {
    const LENGTH: &str = "original_max_position_embeddings";
    let original = match config.optional_context(LENGTH)? {
        Some(outer) => outer,
        None => section.optional_context(LENGTH)?.unwrap_or(context),
    };
    let low = section.positive("low_freq_factor")?;
    let high = section.positive("high_freq_factor")?;
    if high <= low {
        let expected = format!("above `low_freq_factor` ({low})");
        return Err(section.wrong("high_freq_factor", &expected, &json!(high)));
    }
    Ok(RopeScaling::ByWavelength {
        factor: section.positive("factor")?,
        low_freq_factor: low,
        high_freq_factor: high,
        original_max_position_embeddings: original as f64,
    })
}

/// Warnings about settings that are given twice or not used.
pub(super) fn notices(config: &HfConfig<'_>) -> Vec<String> {
    let mut found = Vec::new();
    let Ok(Some(section)) = section(config) else { return found };
    let theta = [&section, config].into_iter().find_map(|scope| scope.get("rope_theta"));
    let theta = theta.and_then(Value::as_f64).unwrap_or(DEFAULT_THETA);
    let name = section.section.trim_end_matches('.');
    let other = config.get(NEW).filter(|value| name == OLD && !is_empty(value));
    if let Some(other) = other
        && !agree(other, section.map, theta)
    {
        found.push(format!(
            "config.json has `{OLD}` and `{NEW}`, which differ; `{OLD}` counts, as in transformers 5, and `{NEW}` is not \
             used; delete the one that is wrong"
        ));
    }
    if let (Some(inner), Some(outer)) = (section.get("rope_theta"), config.get("rope_theta"))
        && inner.as_f64() != outer.as_f64()
    {
        found.push(format!(
            "config.json has `rope_theta: {outer}` and `{name}.rope_theta: {inner}`; the latter counts, as in transformers"
        ));
    }
    let Ok((_, kind)) = kind(&section) else { return found };
    let used: &[&str] = match kind {
        "linear" => &["factor"],
        "llama3" => &["factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"],
        _ => &[],
    };
    let known = ["rope_type", "type", "rope_theta", "partial_rotary_factor"];
    let unused = section.map.iter().filter(|(key, value)| {
        !value.is_null() && !used.contains(&key.as_str()) && !known.contains(&key.as_str())
    });
    let list: Vec<String> = unused.map(|(key, _)| format!("`{name}.{key}`")).collect();
    if !list.is_empty() {
        found.push(format!(
            "rotary settings of type `{kind}` do not use {}: config.json has them in vain",
            list.join(", ")
        ));
    }
    found
}

/// Whether the section that is not used says the same as the one that is, as in files that hold both
/// spellings.
fn agree(other: &Value, section: &Map<String, Value>, theta: f64) -> bool {
    let Some(other) = other.as_object() else { return false };
    if other.get("rope_theta").and_then(Value::as_f64).is_some_and(|another| another != theta) {
        return false;
    }
    let kind = |map: &Map<String, Value>| {
        ["rope_type", "type"].into_iter().find_map(|key| map.get(key)).cloned().unwrap_or(json!("default"))
    };
    let rest = |map: &Map<String, Value>| -> Map<String, Value> {
        let says = |key: &str| !matches!(key, "rope_type" | "type" | "rope_theta");
        map.iter().filter(|(key, _)| says(key)).map(|(key, value)| (key.clone(), value.clone())).collect()
    };
    kind(other) == kind(section) && rest(other) == rest(section)
}

/// Writes the settings, which all layers share, in both spellings.
pub(super) fn write(config: &DecoderConfig, map: &mut Map<String, Value>) {
    let Some(rope) = config.layers.first().and_then(|layer| layer.rope) else { return };
    let mut scaling = Map::new();
    match rope.scaling {
        RopeScaling::Default => {
            scaling.insert("rope_type".to_owned(), json!("default"));
        }
        RopeScaling::Linear { factor } => {
            scaling.insert("rope_type".to_owned(), json!("linear"));
            scaling.insert("factor".to_owned(), json!(factor));
        }
        RopeScaling::ByWavelength {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_max_position_embeddings,
        } => {
            scaling.insert("rope_type".to_owned(), json!("llama3"));
            scaling.insert("factor".to_owned(), json!(factor));
            scaling.insert("low_freq_factor".to_owned(), json!(low_freq_factor));
            scaling.insert("high_freq_factor".to_owned(), json!(high_freq_factor));
            scaling.insert(
                "original_max_position_embeddings".to_owned(),
                json!(original_max_position_embeddings as u64),
            );
        }
    }
    let old = if rope.scaling == RopeScaling::Default { Value::Null } else { json!(scaling) };
    scaling.insert("rope_theta".to_owned(), json!(rope.theta));
    map.insert("rope_theta".to_owned(), json!(rope.theta));
    map.insert(OLD.to_owned(), old);
    map.insert(NEW.to_owned(), json!(scaling));
}
