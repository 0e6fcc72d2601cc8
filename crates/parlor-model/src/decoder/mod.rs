//! The network: a decoder-only transformer, its adapters, and its passes forward and backward.
//!
//! Read downward: [`network`] is the decoder; [`forward`] and [`backward`] run it over a ragged [`batch`];
//! [`block`] is one block of [`attention`] and [`mlp`], which compute with [`linear`] and [`norm`].

pub(crate) mod activation_memory;
pub(crate) mod adapter;
pub(crate) mod attention;
pub(crate) mod backward;
pub(crate) mod batch;
pub(crate) mod block;
pub(crate) mod block_context;
pub(crate) mod cache;
pub(crate) mod dora;
pub(crate) mod error;
pub(crate) mod forward;
pub(crate) mod gradients;
pub(crate) mod initialise;
pub(crate) mod layers;
pub(crate) mod linear;
pub(crate) mod low_rank;
pub(crate) mod lowest_trained;
pub(crate) mod meta;
pub(crate) mod mlp;
pub(crate) mod network;
pub(crate) mod norm;
pub(crate) mod options;
pub(crate) mod parameters;
pub(crate) mod pass;
pub(crate) mod rope_frequencies;
pub(crate) mod targets;
pub(crate) mod workspace;

pub use activation_memory::{PassKind, PassSize, activation_bytes, logits_bytes};
pub use adapter::{Adapter, AdapterId, AdapterTensor};
pub(crate) use adapter::{AdapterTensorKind, LowRank};
pub use batch::{AdapterChoice, Batch, Context, Segment};
pub use cache::{CacheDtype, KvCache};
pub use error::DecoderError;
pub use gradients::Gradients;
pub(crate) use initialise::normal_pair;
pub use network::{Decoder, TrainableParameters};
pub use options::{Checkpointing, PassOptions};

pub use parameters::{
    Factor, Kind, Owner, Parameter, ParameterId, ParameterPart, ParameterSpec, Role, Site, TensorLayout,
    parameter_specs,
};
pub(crate) use rope_frequencies::scaled;
pub use targets::Targets;
pub use workspace::Workspace;
