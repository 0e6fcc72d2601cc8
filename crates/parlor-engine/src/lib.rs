//! Requests to tokens: sampling, stop texts, generation.
#![forbid(unsafe_code)]

mod generate;
mod sampling;
mod stop;

pub use generate::{Answer, Answerer, FinishReason, GenerateError, generate};
pub use sampling::{Sampler, SamplingParams, likeliest};
pub use stop::StopScanner;
