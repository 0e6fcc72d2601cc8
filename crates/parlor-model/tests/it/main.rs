//! Tests at the crate's boundary.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod bad_input;
mod directories;
mod fuzz;
mod hf_configs;
mod loading;
mod managing;
mod making;
mod saving;
