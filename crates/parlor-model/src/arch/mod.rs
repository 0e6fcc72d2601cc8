//! Vendors: which families there are, what their configuration means, and what their tensors are called.
//!
//! Everything that knows a vendor is in this directory, and none of it computes. A family is one file that
//! implements [`family::Family`] and one line in [`registry`].

pub(crate) mod architecture;
pub(crate) mod family;
pub(crate) mod gguf;
mod gpt2;
mod hf_config;
mod llama;
mod llama_family;
mod mistral;
mod notices;
mod presets;
mod qwen2;
mod qwen3;
pub(crate) mod registry;
mod rotary;
mod tensors;

pub use architecture::Architecture;
pub(crate) use hf_config::dropout;
pub use presets::{ArchitectureBlock, ModelPreset, PresetError};
pub(crate) use registry::{DEFAULT_MODEL_NAME, DEFAULT_MODEL_TYPE, unsupported_gguf_family};
pub use tensors::CheckpointTensor;
pub(crate) use tensors::TIED_HEAD;
