//! Requests to tokens: sampling, stop texts, generation.
#![forbid(unsafe_code)]

mod candidates;
mod generate;
mod params;
mod processors;
mod resolve;
mod sampling;
mod stop;

pub use generate::{Answer, Answerer, FinishReason, GenerateError, generate};
pub use params::SamplingParams;
pub use processors::Ends;
pub use resolve::{Resolved, SamplingOverrides, resolve};
pub use sampling::{NoToken, Sampler, likeliest};
pub use stop::StopScanner;
