//! Token ids to logits: the decoder, its weights, and their formats.
#![forbid(unsafe_code)]

mod batch;
mod decoder;
mod decoder_config;
mod initialise;
mod linear;
mod parameter;
mod rope_frequencies;

pub use batch::{Batch, Context, Segment};
pub use decoder::{Decoder, DecoderError, Parameter, ParameterId};
pub use decoder_config::{
    Activation, Bias, DecoderConfig, Head, Mlp, Norm, Positions, QkNorm, Rope, RopeScaling,
};
pub use parameter::{Kind, ParameterSpec, Part, Role, Site, parameter_specs};
