//! Text generation: sampling, stop texts, decoding.
#![forbid(unsafe_code)]

mod candidates;
mod generate;
mod params;
mod processors;
mod resolve;
mod sampling;
mod stop;

pub use generate::{Completion, FinishReason, GenerateError, GenerationModel, generate};
pub use params::SamplingParams;
pub use processors::EndConditions;
pub use resolve::{Resolved, SamplingOverrides, resolve};
pub use sampling::{Sampler, SamplingError, argmax};
pub use stop::StopScanner;
