//! What a decoder, an adapter and generation are configured by, and how weights are loaded: plain data with
//! its checks.

mod adapter_config;
mod decoder_config;
mod device;
mod generation_config;
mod generation_settings;
mod instruction_set;
mod load_options;

pub use adapter_config::{ALL_LINEAR, AdapterBias, AdapterConfig, InitLora, TargetModules};
pub use decoder_config::{
    Activation, Bias, DecoderConfig, Head, LayerConfig, Mlp, Norm, Positions, QkNorm, Rope, RopeScaling,
};
pub use device::{Device, DeviceError};
pub use generation_config::GenerationConfig;
pub use generation_settings::{GenerationSettings, SettingProblem};
pub use instruction_set::InstructionSet;
pub use load_options::{LoadOptions, MaxLength, TorchDtype, WeightLayout, WeightStorage};
