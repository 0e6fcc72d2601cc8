//! File formats: a reader per format, which turns a file into objects with named fields, or into one text.

pub(super) mod arrow;
mod columnar;
mod compression;
pub(super) mod document;
mod docx;
mod format;
mod guarded;
pub(super) mod json;
pub(super) mod parquet;
pub(super) mod table;
pub(super) mod text;

pub(super) use compression::Compression;
pub(super) use format::{Format, format};
