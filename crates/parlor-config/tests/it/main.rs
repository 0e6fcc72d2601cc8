//! The crate at its boundary, on a small configuration of its own.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod constraints;
mod documents;
mod environment;
mod explain;
mod files;
mod flags;
mod layers;
mod limits;
mod problems;
mod random;
mod sample;
mod save;
mod secrets;
mod updates;
mod validators;
mod watch;
