//! The decoder against the reference's numbers and the equalities it must keep; models on disk, sound and
//! damaged.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod adapters;
mod as_published;
mod bad_input;
mod directories;
mod equalities;
mod fixture;
mod freezing;
mod fuzz;
mod generation;
mod gguf;
mod hf_configs;
mod loading;
mod making;
mod managing;
mod optimized;
mod parity;
mod saving;
mod spellings;
