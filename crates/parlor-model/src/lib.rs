//! Token ids to logits: the decoder, its weights, and their formats.
#![forbid(unsafe_code)]

mod backward;
mod batch;
mod cache;
mod decoder;
mod decoder_config;
mod forward;
mod gradients;
mod initialise;
mod linear;
mod norm;
mod parameter;
mod rope_frequencies;
mod saved;
mod targets;

pub use batch::{Batch, Context, Segment};
pub use cache::KvCache;
pub use decoder::{Decoder, DecoderError, Parameter, ParameterId};
pub use decoder_config::{
    Activation, Bias, DecoderConfig, Head, Mlp, Norm, Positions, QkNorm, Rope, RopeScaling,
};
pub use gradients::Gradients;
pub use parameter::{Kind, ParameterSpec, Part, Role, Site, parameter_specs};
pub use saved::Saved;
pub use targets::Targets;
