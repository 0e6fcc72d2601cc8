//! The GGUF container: metadata and tensors of one file that holds a whole model.

mod cursor;
mod damage;
mod file;
mod metadata;
mod tensors;

pub(crate) use file::{Gguf, is_gguf};
pub(crate) use metadata::Metadata;
