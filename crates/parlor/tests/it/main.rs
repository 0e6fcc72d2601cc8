//! The program from outside: what it prints, how it ends, what it leaves behind.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod adapters;
mod as_published;
mod bad_data;
mod bad_models;
mod bench;
mod chat;
mod config;
mod data;
mod documents;
mod findings;
mod generation;
mod gguf;
mod help;
#[cfg(target_os = "linux")]
mod interrupt;
mod kill;
mod model_verbs;
mod plan;
mod preferences;
mod program;
mod quickstart;
mod ranks;
mod recipes;
mod row_columns;
mod secrets;
mod tiny;
mod train;
