//! What identifies the content of a model directory or a GGUF file, cheaply: the key of the in-process cache.
//!
//! The key is SHA-256 over the bytes of every small file that loading reads (configs, tokenizer, template,
//! index), and, of each weight file, its header's bytes, length, modification time and, on Unix, device and
//! inode. The tensors' own bytes are not read: that would cost as much as loading. So a file that is
//! replaced, grown, shrunk or rewritten changes the key; a program that rewrites weights in place and then
//! sets the clock back is not noticed. Copies of a directory have keys of their own. A GGUF file is treated
//! like a weight file.

use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::error::ModelLoadError;

/// Identifies the content of a model directory or file: small files whole, weights by header, length, time
/// and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ContentKey([u8; 32]);

impl std::fmt::Display for ContentKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Small files are hashed whole up to this size; beyond it, like weights.
const WHOLE: u64 = 64 << 20;

/// The first bytes of a GGUF file that are hashed.
const BEGINNING: u64 = 1 << 16;

/// The key of `dir`, a directory or a GGUF file, as it is now.
///
/// # Errors
/// When the directory or a file in it cannot be read.
pub(crate) fn content_key(dir: &Path) -> Result<ContentKey, ModelLoadError> {
    if dir.is_file() {
        return file_key(dir).map_err(|error| ModelLoadError::reading(dir, &error));
    }
    let entries = std::fs::read_dir(dir).map_err(|error| ModelLoadError::reading(dir, &error))?;
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| {
            [".json", ".jinja", ".txt", ".safetensors", ".model"].iter().any(|suffix| name.ends_with(suffix))
        })
        .collect();
    names.sort();
    let mut hash = Sha256::new();
    for name in names {
        let path = dir.join(&name);
        let failed = |error: &std::io::Error| ModelLoadError::reading(&path, error);
        // Follows links: a hub cache links to its blobs.
        let metadata = std::fs::metadata(&path).map_err(|error| failed(&error))?;
        if !metadata.is_file() {
            continue;
        }
        let weights = name.ends_with(".safetensors") || metadata.len() > WHOLE;
        hash.update((name.len() as u64).to_le_bytes());
        hash.update(name.as_bytes());
        hash.update(metadata.len().to_le_bytes());
        let mut file = std::fs::File::open(&path).map_err(|error| failed(&error))?;
        let most = if weights {
            identify(&metadata, &mut hash);
            header_length(&mut file, &mut hash).map_err(|error| failed(&error))?
        } else {
            metadata.len()
        };
        let mut read = (&mut file).take(most);
        let mut buffer = vec![0; 1 << 16];
        loop {
            let count = read.read(&mut buffer).map_err(|error| failed(&error))?;
            if count == 0 {
                break;
            }
            hash.update(&buffer[..count]);
        }
    }
    Ok(ContentKey(hash.finalize().into()))
}

fn file_key(path: &Path) -> std::io::Result<ContentKey> {
    let (metadata, mut hash) = (std::fs::metadata(path)?, Sha256::new());
    hash.update(metadata.len().to_le_bytes());
    identify(&metadata, &mut hash);
    let mut beginning = Vec::new();
    std::fs::File::open(path)?.take(BEGINNING).read_to_end(&mut beginning)?;
    hash.update(&beginning);
    Ok(ContentKey(hash.finalize().into()))
}

fn identify(metadata: &std::fs::Metadata, hash: &mut Sha256) {
    if let Ok(time) = metadata.modified()
        && let Ok(since) = time.duration_since(std::time::UNIX_EPOCH)
    {
        hash.update(since.as_nanos().to_le_bytes());
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        hash.update(metadata.dev().to_le_bytes());
        hash.update(metadata.ino().to_le_bytes());
    }
}

/// Length of a safetensors header, at most 100 MB, from the first 8 bytes (which are hashed as well).
fn header_length(file: &mut std::fs::File, hash: &mut Sha256) -> std::io::Result<u64> {
    let mut first = Vec::with_capacity(8);
    file.take(8).read_to_end(&mut first)?;
    hash.update(&first);
    let length = <[u8; 8]>::try_from(first.as_slice()).map(u64::from_le_bytes).unwrap_or(0);
    Ok(length.min(100_000_000))
}
