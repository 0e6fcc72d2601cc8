//! Token ids to logits: the decoder, its weights, and their formats.
//!
//! [`ModelManager`] loads the model that a [`ModelConfig`] names; [`load_path`] and [`load_with_adapters`]
//! load one from disk. A [`Decoder`] runs a ragged [`Batch`]: [`Decoder::logits`] for inference,
//! [`Decoder::logprobs`] and [`Decoder::backward`] for training.
//!
//! ```
//! use parlor_model::{
//!     ArchitectureBlock, Batch, Decoder, Gradients, ModelPreset, PassOptions, Targets, Workspace,
//! };
//!
//! let (_, config) = ArchitectureBlock::default().resolve(ModelPreset::Nano, 64)?;
//! let decoder = Decoder::initialise(config, 0)?;
//! let batch = Batch::of_sequences([&[1, 2, 3, 4][..]]);
//! let targets = Targets::next_token(&batch, &[1.0; 4]);
//! let mut workspace = Workspace::default();
//! let logp = decoder.logprobs(&batch, &targets, &PassOptions::default(), &mut workspace)?;
//! assert!(logp[..3].iter().all(|&logp| logp < 0.0));
//! // The gradients of the mean negative log-likelihood of three predictions.
//! let d_logp: Vec<f32> = targets.weights.iter().map(|weight| -weight / 3.0).collect();
//! let mut gradients = Gradients::zeros(&decoder);
//! decoder.backward(&d_logp, &batch, &mut workspace, &mut gradients)?;
//! assert!(gradients.global_norm() > 0.0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
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
pub use files::{ContentKey, TensorEntry, TextFiles, WeightFiles};
pub use lora::{
    AdapterInfo, AdapterPlan, load_adapter, load_with_adapters, locate_with_adapters, merge,
    read_adapter_config, save_adapter,
};
pub use manager::{
    AdapterSummary, Bnb4bitQuantType, GpuInfo, MemoryEstimate, ModelConfig, ModelInfo, ModelManager,
    OperationMetrics, OutOfMemoryPolicy, ParametersByPart, PerformanceMetrics, reserved_template_variable,
};
