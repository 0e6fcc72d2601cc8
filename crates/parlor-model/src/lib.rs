//! Token ids to logits: the decoder, its weights, and their formats.
#![forbid(unsafe_code)]

mod arch;
mod checkpoint;
mod config;
mod decoder;
mod error;
mod files;
mod lora;
mod manager;
pub mod memory;

pub use arch::{Architecture, ArchitectureBlock, CheckpointTensor, ModelPreset, PresetError};
pub use checkpoint::{
    LoadedModel, MAX_SHARD_BYTES, SaveModel, TextArtifacts, load_directory, load_gguf, load_path,
    locate_model, read_decoder, read_gguf_text, save_directory, save_weights,
};
pub use config::{
    ALL_LINEAR, Activation, AdapterBias, AdapterConfig, Bias, DecoderConfig, Device, DeviceError,
    GenerationConfig, GenerationSettings, Head, InitLora, InstructionSet, LayerConfig, LoadOptions,
    MaxLength, Mlp, Norm, Positions, QkNorm, Rope, RopeScaling, SettingProblem, TargetModules, TorchDtype,
    WeightLayout, WeightStorage,
};
pub use decoder::{
    Adapter, AdapterChoice, AdapterId, AdapterTensor, Batch, CacheDtype, Checkpointing, Context, Decoder,
    DecoderError, Factor, Gradients, Kind, KvCache, Owner, Parameter, ParameterId, ParameterPart,
    ParameterSpec, PassKind, PassOptions, PassSize, Role, Segment, Site, Targets, TensorLayout,
    TrainableParameters, Workspace, activation_bytes, logits_bytes, parameter_specs,
};
pub use error::{LoadErrorKind, ModelLoadError, SaveError};
pub use files::{Container, ContentKey, StoredDtype, TensorEntry, TextFiles, WeightFiles, content_key};
pub use lora::{
    AdapterInfo, AdapterPlan, load_adapter, load_with_adapters, locate_with_adapters, merge,
    read_adapter_config, save_adapter,
};
pub use manager::{
    AdapterSummary, Bnb4bitQuantType, GpuInfo, MemoryEstimate, ModelConfig, ModelInfo, ModelManager,
    OperationMetrics, OutOfMemoryPolicy, ParametersByPart, PerformanceMetrics, reserved_template_variable,
};
