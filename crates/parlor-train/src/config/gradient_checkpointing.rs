//! `training.gradient_checkpointing`: HF's switch, and how many blocks are recomputed at a time.

use std::borrow::Cow;
use std::num::NonZeroUsize;

use parlor_model::Checkpointing;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// Which activations are kept: `false` or `none`, `true` or `full`, `every_N`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GradientCheckpointing(pub Checkpointing);

const EXPECTED: &str = "true, false, `none`, `full` or `every_N` with a number of blocks";

impl GradientCheckpointing {
    fn read(value: &Value) -> Option<Self> {
        let every = |blocks: usize| NonZeroUsize::new(blocks).map(Checkpointing::Every);
        match value {
            Value::Bool(false) => Some(Checkpointing::None),
            Value::Bool(true) => every(1),
            Value::String(text) => match text.as_str() {
                "none" => Some(Checkpointing::None),
                "full" => every(1),
                other => other.strip_prefix("every_").and_then(|blocks| blocks.parse().ok()).and_then(every),
            },
            _ => None,
        }
        .map(Self)
    }
}

impl Serialize for GradientCheckpointing {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Checkpointing::None => serializer.serialize_bool(false),
            Checkpointing::Every(blocks) if blocks.get() == 1 => serializer.serialize_bool(true),
            Checkpointing::Every(blocks) => serializer.serialize_str(&format!("every_{blocks}")),
        }
    }
}

impl<'de> Deserialize<'de> for GradientCheckpointing {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        Self::read(&value).ok_or_else(|| serde::de::Error::custom(format!("{value} is not {EXPECTED}")))
    }
}

impl JsonSchema for GradientCheckpointing {
    fn schema_name() -> Cow<'static, str> {
        "GradientCheckpointing".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [{ "type": "boolean" }, { "type": "string", "pattern": "^(none|full|every_[1-9][0-9]{0,4})$" }],
        })
    }
}
