//! Tests at the crate's boundary.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod best;
mod checkpoints;
mod config;
mod disk;
mod distributed;
mod losses;
mod memory;
mod optimizer;
mod parity;
mod preference_run;
mod preferences;
mod resume;
mod run;
mod samples;
mod schedule;
mod steps;
mod streaming;
mod thorough;
mod tiny;
mod tokens;
mod trainer;
mod training_rows;
mod trl_runs;
mod watching;
