//! Token ids to logits: the decoder, its weights, and their formats.
#![forbid(unsafe_code)]

mod activation_memory;
pub mod arch;
mod backward;
mod batch;
mod block;
mod cache;
mod checkpointing;
mod config;
mod content_key;
mod decoder;
mod decoder_config;
mod device;
mod dora;
mod error;
mod finite;
mod forward;
mod generation_config;
mod generation_file;
mod generation_settings;
mod gguf;
mod gradients;
mod info;
mod initialise;
mod instruction_set;
mod layout;
mod lfs;
mod linear;
mod load;
mod locate;
mod lora;
mod manager;
mod materialise;
pub mod memory;
mod model;
mod norm;
mod parameter;
mod pass;
mod rope_frequencies;
mod safetensors_files;
mod safetensors_writer;
mod save;
mod staged;
mod targets;
mod tensor_names;
mod text_files;
mod vocabulary;
mod weight_files;
mod with_adapters;
mod workspace;

pub use activation_memory::{PassKind, PassSize, activation_bytes, logits_bytes};
pub use arch::{Architecture, ArchitectureBlock, ModelPreset, PresetError};
pub use batch::{AdapterChoice, Batch, Context, Segment};
pub use cache::{CacheDtype, KvCache};
pub use checkpointing::Checkpointing;
pub use config::{Bnb4bitQuantType, ModelConfig, OutOfMemoryPolicy, TorchDtype, reserved_template_variable};
pub use content_key::{ContentKey, content_key};
pub use decoder::{Decoder, DecoderError, Parameter, ParameterId};
pub use decoder_config::{
    Activation, Bias, DecoderConfig, Head, Mlp, Norm, Positions, QkNorm, Rope, RopeScaling,
};
pub use device::{Device, DeviceError};
pub use error::{LoadErrorKind, ModelLoadError};
pub use generation_config::GenerationConfig;
pub use generation_settings::{GenerationSettings, SettingProblem};
pub use gradients::Gradients;
pub use info::{AdapterSummary, MemoryEstimate, ModelInfo, ParametersByPart};
pub use instruction_set::InstructionSet;
pub use load::{LoadOptions, MaxLength, WeightLayout, WeightStorage, read_decoder};
pub use locate::locate_model;
pub use lora::{
    ALL_LINEAR, Adapter, AdapterBias, AdapterConfig, AdapterId, AdapterInfo, AdapterPlan, AdapterTensor,
    InitLora, TargetModules, load_adapter, merge, read_adapter_config, save_adapter,
};
pub use manager::{GpuInfo, ModelManager, OperationMetrics, PerformanceMetrics, TrainableParameters};
pub use model::{LoadedModel, load_directory, load_gguf, load_path};
pub use parameter::{Factor, Kind, Owner, ParameterPart, ParameterSpec, Role, Site, parameter_specs};
pub use save::{MAX_SHARD_BYTES, SaveError, SaveModel, save_directory, save_weights};
pub use targets::Targets;
pub use text_files::TextFiles;
pub use vocabulary::{TextArtifacts, read_gguf_text};
pub use weight_files::{Container, StoredDtype, TensorEntry, WeightFiles};
pub use with_adapters::{load_with_adapters, locate_with_adapters};
pub use workspace::Workspace;
