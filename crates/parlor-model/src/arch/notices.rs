//! Keys of transformers' base classes that concern every family: what is an error, and what is a warning.
//!
//! Source: `PreTrainedConfig` and `masking_utils.py` in transformers 5.23.

use serde_json::{Map, Value, json};

use super::family::Family;
use super::hf_config::HfConfig;
use crate::error::ModelLoadError;

/// Whether the file names code of its repository.
pub(super) fn remote_code(hf: &Map<String, Value>) -> bool {
    hf.get("auto_map").is_some_and(|value| !value.is_null())
}

/// Refuses keys that change what every family computes, and that the decoder does not have.
pub(super) fn refuse_unsupported(config: &HfConfig<'_>) -> Result<(), ModelLoadError> {
    // Without it, transformers lets every token see those after it.
    if !config.flag("is_causal", true)? {
        return Err(config.unsupported("is_causal", &json!(false), "`is_causal: true`"));
    }
    let by_layer =
        config.get("per_layer_config").filter(|value| value.as_object().is_none_or(|map| !map.is_empty()));
    match by_layer {
        Some(_) => Err(config.unsupported("per_layer_config", &json!({}), "one shape for all layers")),
        None => Ok(()),
    }
}

/// Warnings that do not depend on the family.
pub(super) fn of(family: &dyn Family, config: &HfConfig<'_>) -> Vec<String> {
    let mut found = Vec::new();
    let classes = config.get("architectures").and_then(Value::as_array);
    let mut classes = classes.into_iter().flatten().filter_map(Value::as_str);
    if let Some(class) = classes.next()
        && !class.eq_ignore_ascii_case(family.class_name())
        && !classes.any(|other| other == family.class_name())
    {
        found.push(format!(
            "config.json has `model_type: {}` and `architectures: [{class}]`; the model is loaded as a \
             `{}`, by its `model_type`, as in transformers",
            family.model_type(),
            family.class_name()
        ));
    }
    if remote_code(config.map) {
        found.push(format!(
            "config.json names code of its repository (`auto_map`), which Parlor does not run; the model is loaded as a \
             `{}`, by its `model_type`",
            family.class_name()
        ));
    }
    found
}
