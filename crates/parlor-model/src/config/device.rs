//! Where a model runs: `auto`, `cpu`, `cuda` or `cuda:N`. This build runs on the CPU only.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::error::{LoadErrorKind, ModelLoadError};

/// The device that the user asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Device {
    /// The best one that this build can use.
    #[default]
    Auto,
    /// The processor.
    Cpu,
    /// A GPU: the first, or the one with this number.
    Cuda(Option<u32>),
}

/// A device's name that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a device; use `auto`, `cpu`, `cuda`, or `cuda:N` such as `cuda:0`")]
pub struct DeviceError(String);

impl FromStr for Device {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        match text.trim() {
            "auto" => Ok(Device::Auto),
            "cpu" => Ok(Device::Cpu),
            "cuda" => Ok(Device::Cuda(None)),
            other => other
                .strip_prefix("cuda:")
                .filter(|number| number.bytes().all(|b| b.is_ascii_digit()))
                .and_then(|number| number.parse().ok())
                .map(|number| Device::Cuda(Some(number)))
                .ok_or_else(|| DeviceError(text.to_owned())),
        }
    }
}

impl TryFrom<String> for Device {
    type Error = DeviceError;

    fn try_from(text: String) -> Result<Self, DeviceError> {
        text.parse()
    }
}

impl From<Device> for String {
    fn from(device: Device) -> String {
        device.to_string()
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Auto => f.write_str("auto"),
            Device::Cpu => f.write_str("cpu"),
            Device::Cuda(None) => f.write_str("cuda"),
            Device::Cuda(Some(number)) => write!(f, "cuda:{number}"),
        }
    }
}

impl JsonSchema for Device {
    fn schema_name() -> Cow<'static, str> {
        "Device".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "auto, cpu, cuda, or cuda:N",
            "type": "string",
            "pattern": "^(auto|cpu|cuda(:[0-9]+)?)$",
        })
    }
}

impl Device {
    /// The device that is used: never `Auto`.
    ///
    /// # Errors
    /// `Device` when a GPU is asked for, which this build cannot use.
    pub fn resolve(self) -> Result<Device, ModelLoadError> {
        match self {
            Device::Auto | Device::Cpu => Ok(Device::Cpu),
            Device::Cuda(_) => Err(ModelLoadError::new(
                LoadErrorKind::Device,
                "`model.device`",
                format!("`{self}` was asked for, but this build has no GPU support"),
                "use `device: cpu`, or `device: auto`, which takes the CPU in this build",
            )),
        }
    }
}
