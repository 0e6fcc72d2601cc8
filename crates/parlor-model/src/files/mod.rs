//! The files of a model: safetensors and GGUF containers, the text side's files, JSON, and how tensors are
//! laid out in them.
//!
//! Knows no family of models: which tensor is which is in `arch/`.

mod content_key;
pub(crate) mod generation_file;
mod gguf;
mod json;
mod layout;
mod lfs;
mod safetensors;
mod safetensors_writer;
mod synced_file;
mod text_files;
mod weight_files;

pub use content_key::ContentKey;
pub(crate) use content_key::content_key;
pub(crate) use gguf::{Gguf, Metadata, is_gguf};
pub(crate) use json::read_object;
pub(crate) use layout::{disk_shape, is_direct, is_rows, specs_of, split};
pub(crate) use safetensors::{INDEX_FILE, SINGLE_FILE, is_shard_name, name_the_file};
pub(crate) use safetensors_writer::{TensorToWrite, write_safetensors};
pub(crate) use synced_file::{write_file, write_json};
pub use text_files::TextFiles;
pub(crate) use weight_files::Container;
pub use weight_files::{TensorEntry, WeightFiles};
