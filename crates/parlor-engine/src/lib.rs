//! Requests to tokens: sampling, stop texts, generation.
#![forbid(unsafe_code)]

mod sampling;
mod stop;

pub use sampling::{Sampler, SamplingParams, likeliest};
pub use stop::StopScanner;
