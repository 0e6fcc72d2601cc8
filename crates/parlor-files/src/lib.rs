//! Files and directories that appear whole or not at all: written under a temporary name, fsynced, renamed.
//!
//! The order is file contents, directory entries, rename, entries of the parent, so that a kill or a power cut leaves the
//! old state or the new one. Every crate that writes files uses these functions. Leaves out: locks between processes.
#![forbid(unsafe_code)]

pub mod atomic_dir;
pub mod atomic_file;
mod disk_space;
mod error;

pub use disk_space::{available_bytes, human_bytes};
pub use error::{FillError, WriteError};
