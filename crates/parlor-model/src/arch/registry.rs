//! The families that there are. A family joins with its own file and one line in [`FAMILIES`].

use std::path::Path;
use std::sync::LazyLock;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};
use serde_json::{Map, Value, json};

use super::architecture::Architecture;
use super::family::Family;
use super::gguf::{self, GgufKeys};
use super::gpt2::Gpt2;
use super::llama::Llama;
use super::mistral::Mistral;
use super::notices;
use super::qwen2::Qwen2;
use super::qwen3::Qwen3;
use crate::config::DecoderConfig;
use crate::error::{LoadErrorKind, ModelLoadError};
use crate::files::{Gguf, Metadata};

static FAMILIES: [&dyn Family; 5] = [&Qwen2, &Qwen3, &Llama, &Mistral, &Gpt2];

/// The model that `model.name` is by default.
pub(crate) const DEFAULT_MODEL_NAME: &str = "Qwen/Qwen2.5-3B";
/// What `model.model_type` is by default.
pub(crate) const DEFAULT_MODEL_TYPE: &str = "qwen";
/// The family of a new model whose configuration names none.
pub(super) const DEFAULT_NEW_FAMILY: Architecture = Architecture::QWEN3;

static NAMES: LazyLock<Vec<&'static str>> =
    LazyLock::new(|| FAMILIES.iter().map(|family| family.model_type()).collect());

impl Architecture {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Architecture> {
        FAMILIES.iter().map(|family| Architecture(*family))
    }

    /// The one of this `model_type`.
    pub fn named(model_type: &str) -> Option<Architecture> {
        Self::all().find(|family| family.model_type() == model_type)
    }

    fn supported() -> String {
        let families = Self::all().map(|family| format!("`{family}` ({})", family.class_name()));
        families.collect::<Vec<_>>().join(", ")
    }

    /// The family that a `config.json` names.
    ///
    /// # Errors
    /// `Incompatible` for a family that Parlor does not run; `Corrupt` when the file names none.
    pub fn of(hf: &Map<String, Value>, file: &Path) -> Result<Self, ModelLoadError> {
        let model_type = hf.get("model_type").and_then(Value::as_str);
        let class = hf.get("architectures").and_then(|list| list.get(0)).and_then(Value::as_str);
        let help = format!("use a model of a supported family: {}", Self::supported());
        let Some(found) = model_type.or(class) else {
            return Err(ModelLoadError::corrupt(
                file,
                "the key `model_type` is missing, so the model's family is unknown",
                format!("add `model_type`: {}", Self::supported()),
            ));
        };
        let family = match model_type {
            Some(name) => Self::named(name),
            None => Self::all().find(|family| Some(family.class_name()) == class),
        };
        let Some(family) = family else {
            let what = match notices::remote_code(hf) {
                true => format!(
                    "this model (`{found}`) needs code from its repository (`auto_map`), and Parlor runs no remote code, \
                     whatever `trust_remote_code` says"
                ),
                false => format!("models of type `{found}` are not supported"),
            };
            return Err(ModelLoadError::incompatible(file, what, help));
        };
        // A classifier of a supported family has another head.
        if let Some(class) = class
            && class.contains("For")
            && !class.to_ascii_lowercase().contains("forcausallm")
        {
            return Err(ModelLoadError::incompatible(
                file,
                format!("this is a `{class}`, which is not a causal language model"),
                format!("use a `{}` checkpoint", family.class_name()),
            ));
        }
        Ok(family)
    }

    /// Family and shape of the model in a GGUF file.
    ///
    /// # Errors
    /// `Corrupt` for a missing, ill-typed or contradictory key; `Incompatible` for what Parlor does not run.
    /// Each names the key and the file.
    pub(crate) fn of_gguf(file: &Gguf) -> Result<(Self, DecoderConfig), ModelLoadError> {
        let metadata = &file.metadata;
        let name = metadata.text(gguf::ARCHITECTURE)?.ok_or_else(|| metadata.missing(gguf::ARCHITECTURE))?;
        let keys = GgufKeys { metadata, family: name };
        let mut found = None;
        for family in Self::all() {
            if found.is_none() && family.0.is_in_gguf(&keys)? {
                found = Some(family);
            }
        }
        let Some(architecture) = found else {
            return Err(metadata.problem(
                LoadErrorKind::Incompatible,
                gguf::ARCHITECTURE,
                format!("models of type `{name}` are not supported"),
                format!("use a model of a supported family: {}", Self::supported_in_gguf()),
            ));
        };
        if metadata.integer(&keys.name("expert_count"))?.is_some_and(|count| count > 0) {
            return Err(keys.unsupported("expert_count", "models without experts"));
        }
        let config = architecture.0.read_gguf(&keys, file)?;
        let mut problems = config.problems();
        if problems.is_empty() {
            problems = architecture.hf_config(&config).err().unwrap_or_default();
        }
        if !problems.is_empty() {
            return Err(ModelLoadError::corrupt(
                metadata.path(),
                format!("the metadata describe an inconsistent model: {}", problems.join("; ")),
                "convert or download the model again",
            ));
        }
        Ok((architecture, config))
    }

    /// The names that GGUF files have for families, each once, with the other families that share it.
    fn supported_in_gguf() -> String {
        let mut listed: Vec<(&str, String)> = Vec::new();
        for family in FAMILIES {
            let name = family.gguf_name();
            match listed.iter_mut().find(|(known, _)| *known == name) {
                Some((_, text)) => {
                    let summary = family.summary().trim_end_matches('.');
                    text.push_str(&format!(" (also for {summary})"));
                }
                None => listed.push((name, format!("`{name}`"))),
            }
        }
        listed.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join(", ")
    }
}

/// The family that a GGUF file names, where it is none of those that Parlor runs.
///
/// # Errors
/// `Corrupt` when its name is no text.
pub(crate) fn unsupported_gguf_family(metadata: &Metadata) -> Result<Option<&str>, ModelLoadError> {
    let known = |name: &&str| FAMILIES.iter().any(|family| family.gguf_name() == *name);
    Ok(metadata.text(gguf::ARCHITECTURE)?.filter(|name| !known(name)))
}

impl<'de> Deserialize<'de> for Architecture {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::named(&name).ok_or_else(|| de::Error::unknown_variant(&name, &NAMES))
    }
}

impl JsonSchema for Architecture {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Architecture".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let family = |family: &&dyn Family| json!({ "description": family.summary(), "type": "string", "const": family.model_type() });
        json_schema!({
            "description": "A family of models, by its Hugging Face `model_type`.",
            "oneOf": FAMILIES.iter().map(family).collect::<Vec<_>>(),
        })
    }
}
