//! Which instruction sets the operations may use: `auto`, or a level that `parlor-kernels` knows by name.

use std::borrow::Cow;

use parlor_kernels::cpu::isa::{Isa, IsaError};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// The level that the user asks for; none is the widest that the processor has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InstructionSet(pub Option<Isa>);

impl TryFrom<String> for InstructionSet {
    type Error = IsaError;

    fn try_from(text: String) -> Result<Self, IsaError> {
        match text.trim() {
            "auto" => Ok(Self(None)),
            name => Isa::from_name(name).map(|isa| Self(Some(isa))),
        }
    }
}

impl From<InstructionSet> for String {
    fn from(set: InstructionSet) -> String {
        set.0.map_or("auto", Isa::name).to_owned()
    }
}

impl JsonSchema for InstructionSet {
    fn schema_name() -> Cow<'static, str> {
        "InstructionSet".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let names: Vec<&str> = std::iter::once("auto").chain(Isa::ALL.map(Isa::name)).collect();
        json_schema!({"type": "string", "enum": names})
    }
}
