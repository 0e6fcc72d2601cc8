//! Tests of `parlor-track` at its boundary.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod config;
mod faults;
mod local_files;
mod mlflow;
mod plot;
mod row;
mod run;
mod setting;
