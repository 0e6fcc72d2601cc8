//! Reference log-probabilities on disk: `reference/<key>.safetensors` in the output directory, written
//! atomically.
//!
//! The key is a hash over the reference's weights and the examples, so a file never serves another run's
//! data. The file holds `logp` (f32, of all examples in order), `lengths` (u32, one per example), and a hash
//! of the key and both. It has a directory of its own because some loaders read every `.safetensors` file
//! next to a model.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView, serialize};
use sha2::{Digest, Sha256};

use crate::hash::{hex, hex_sha256};
use parlor_files::{WriteError, atomic_file};

/// Name of the directory.
pub(crate) const REFERENCE: &str = "reference";

const SHA256: &str = "sha256";

/// Log-probabilities of each example's targets, in order.
pub(super) type LogProbabilities = Vec<Vec<f32>>;

/// The file of one set of examples.
#[derive(Clone, Debug)]
pub(super) struct CacheFile {
    path: PathBuf,
    key: String,
}

impl CacheFile {
    /// The file of these examples under a reference with these weights, both given by hash.
    pub(super) fn new(output: &Path, weights: &str, examples: &str) -> Self {
        let key = hex_sha256(format!("reference log-probabilities 1\0{weights}\0{examples}").as_bytes());
        Self { path: output.join(REFERENCE).join(format!("{}.safetensors", &key[..16])), key }
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The log-probabilities of `examples` examples; none when there is no file.
    ///
    /// # Errors
    /// Why it cannot be used, as a sentence.
    pub(super) fn read(&self, examples: usize) -> Result<Option<LogProbabilities>, String> {
        let bytes = match std::fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.to_string()),
        };
        self.parse(&bytes, examples).map(Some)
    }

    fn parse(&self, bytes: &[u8], examples: usize) -> Result<LogProbabilities, String> {
        let text = |error: safetensors::SafeTensorError| error.to_string();
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(text)?;
        let file = SafeTensors::deserialize(bytes).map_err(text)?;
        let (logp, lengths) = (file.tensor("logp").map_err(text)?, file.tensor("lengths").map_err(text)?);
        let written = header.metadata().as_ref().and_then(|metadata| metadata.get(SHA256));
        if written != Some(&self.content_hash(logp.data(), lengths.data())) {
            return Err("its contents are not those that were written for this run".to_owned());
        }
        let mut values = logp.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        let lengths = lengths.data().chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        let found: LogProbabilities =
            lengths.map(|length| values.by_ref().take(length as usize).collect()).collect();
        if found.len() != examples {
            return Err(format!("it holds {} examples, expected {examples}", found.len()));
        }
        Ok(found)
    }

    fn content_hash(&self, logp: &[u8], lengths: &[u8]) -> String {
        hex(&Sha256::new().chain_update(&self.key).chain_update(logp).chain_update(lengths).finalize())
    }

    /// Writes the file.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn write(&self, found: &LogProbabilities) -> Result<(), WriteError> {
        let failed = |error: safetensors::SafeTensorError| WriteError::new(&self.path, error);
        let directory = self.path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(directory).map_err(|error| WriteError::new(directory, error))?;
        let logp: Vec<u8> = found.iter().flatten().flat_map(|value| value.to_le_bytes()).collect();
        let lengths: Vec<u8> = found.iter().flat_map(|one| (one.len() as u32).to_le_bytes()).collect();
        let metadata = HashMap::from([(SHA256.to_owned(), self.content_hash(&logp, &lengths))]);
        let views = [
            ("logp", TensorView::new(Dtype::F32, vec![logp.len() / 4], &logp).map_err(failed)?),
            ("lengths", TensorView::new(Dtype::U32, vec![lengths.len() / 4], &lengths).map_err(failed)?),
        ];
        let bytes = serialize(views, Some(metadata)).map_err(failed)?;
        atomic_file::write(&self.path, &bytes)
    }
}

/// The other files of the directory: of other runs or examples, or half-written.
pub(super) fn other_files(output: &Path, used: &[&CacheFile]) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(output.join(REFERENCE)).into_iter().flatten().flatten();
    let mut others: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    others.retain(|path| used.iter().all(|file| file.path() != path));
    others.sort();
    others
}
