//! One GGUF file, which holds a whole model: its metadata and its mapped tensors.
//!
//! Versions 2 and 3, little-endian. Source: `docs/gguf.md` of ggml. Nothing is trusted: every count and size
//! is checked against the length of the file before anything is allocated, and tensors must not overlap. Own
//! code, because the crates that read the format either bring an engine of their own (`candle-core`) or read
//! from a stream and trust its counts; the format itself is a page. Leaves out: models split over several
//! files, big-endian files, nested arrays.

use std::path::Path;
use std::sync::Arc;

use parlor_kernels::MappedFile;

use super::cursor::Cursor;
use super::metadata::{self, Metadata};
use super::tensors;
use crate::error::ModelLoadError;
use crate::files::lfs;
use crate::files::weight_files::WeightFiles;

/// The first four bytes.
const MAGIC: &[u8] = b"GGUF";

/// A file that was opened.
#[derive(Debug)]
pub(crate) struct Gguf {
    pub(crate) metadata: Metadata,
    pub(crate) weights: WeightFiles,
}

/// Whether a path is a GGUF file: by its extension, or by its first bytes.
pub(crate) fn is_gguf(path: &Path) -> bool {
    let begins = || {
        use std::io::Read;
        let mut magic = [0; MAGIC.len()];
        std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok() && magic == MAGIC
    };
    let named = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"));
    path.is_file() && (named || begins())
}

impl Gguf {
    /// Maps a file and reads its header.
    ///
    /// # Errors
    /// `NotFound` when it cannot be read; `Corrupt` when it is damaged; `Incompatible` for another version or
    /// a part of a split model.
    pub(crate) fn open(path: &Path) -> Result<Self, ModelLoadError> {
        let file = Arc::new(MappedFile::open(path).map_err(|error| ModelLoadError::reading(path, &error))?);
        lfs::refuse(path, file.bytes())?;
        let mut cursor = Cursor::new(file.bytes(), path);
        let magic = cursor.bytes(MAGIC.len(), "the magic number")?;
        if magic != MAGIC {
            return Err(ModelLoadError::corrupt(
                path,
                format!("this is not a GGUF file: it begins with {magic:02x?}, and not with `GGUF`"),
                "name a .gguf file, or a directory in Hugging Face layout",
            ));
        }
        let version = cursor.u32("the version")?;
        if !(2..=3).contains(&version) {
            let (what, help) = match version.swap_bytes() {
                1..=3 => ("is big-endian".to_owned(), "get the little-endian file of this model"),
                _ => (
                    format!("has version {version} of the format"),
                    "convert the model anew; 2 and 3 are read",
                ),
            };
            return Err(ModelLoadError::incompatible(path, format!("this GGUF file {what}"), help));
        }
        let tensors = cursor.count(tensors::LEAST_BYTES, "the number of tensors")?;
        let entries = cursor.count(metadata::LEAST_BYTES, "the number of metadata keys")?;
        let metadata = Metadata::read(&mut cursor, &file, entries)?;
        if let Some(parts) = metadata.integer("split.count")?.filter(|parts| *parts > 1) {
            return Err(ModelLoadError::incompatible(
                path,
                format!("this is one of {parts} files that a model is split over"),
                "join them first, with the `--merge` of the `gguf-split` that comes with ggml's tools",
            ));
        }
        let weights = tensors::read(&mut cursor, &file, &metadata, tensors)?;
        Ok(Self { metadata, weights })
    }
}
