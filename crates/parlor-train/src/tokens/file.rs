//! A file of token sequences, mapped for reading, so that a corpus costs address space and not memory.
//!
//! All words are 32 bits wide, in the byte order of the machine:
//! - 16 bytes: `PARLORTK`, the version of this format (1), and a word that shows the byte order;
//! - per sequence: the number of runs of equal weights, the number of the source file, the line in two words, the
//!   ids, and per run its length and its weight;
//! - the index: four words per sequence: its offset (in words, as two), its tokens, its targets;
//! - the writer's own header, as JSON;
//! - 56 bytes: the byte offsets of the index and of the JSON, the number of sequences, and the SHA-256 of
//!   everything before it.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parlor_kernels::MappedFile;
use parlor_text::RowSource;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub(super) const MAGIC: &[u8; 8] = b"PARLORTK";
pub(super) const VERSION: u32 = 1;
pub(super) const BYTE_ORDER: u32 = 0x0102_0304;
pub(super) const WORD: usize = 4;
pub(super) const START: usize = 16;
/// Words before the ids of a sequence.
const HEAD: usize = 4;
/// Words of a sequence's entry in the index.
pub(super) const ENTRY: usize = 4;
const END: usize = 24 + 32;

/// Bytes of the map that may become resident before all of it is released.
const RESIDENT: usize = 64 << 20;
/// Bytes that one page fault makes resident, since the kernel reads ahead.
const FAULT: usize = 64 << 10;

/// The JSON header: what every file holds, and what its writer adds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Header<M> {
    pub(super) sources: Vec<PathBuf>,
    pub(super) sha256: String,
    pub(super) writer: M,
}

/// Number of targets of a sequence with these weights; its first token is predicted from nothing and never
/// counts.
pub(super) fn targets(weights: &[f32]) -> usize {
    weights.iter().skip(1).filter(|&&weight| weight != 0.0).count()
}

/// The bytes that identify a sequence: its length, then id and weight of each token.
pub(crate) fn fingerprint(ids: &[u32], weights: &[f32]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(8 + 8 * ids.len());
    bytes.extend((ids.len() as u64).to_le_bytes());
    for (id, weight) in ids.iter().zip(weights) {
        bytes.extend(id.to_le_bytes());
        bytes.extend(weight.to_bits().to_le_bytes());
    }
    bytes
}

fn whole(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

/// A file of sequences, mapped.
#[derive(Debug)]
pub struct TokenFile {
    map: MappedFile,
    /// Range of words that the index takes.
    index: std::ops::Range<usize>,
    header: Header<serde_json::Value>,
    sources: Vec<Arc<PathBuf>>,
    touched: AtomicUsize,
}

impl TokenFile {
    /// Opens a file after comparing its checksum, which reads all of it once. None when there is no file.
    ///
    /// # Errors
    /// Why it cannot be used, as a sentence.
    pub fn open(path: &Path) -> Result<Option<Self>, String> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.to_string()),
        };
        verify(file)?;
        Self::parse(MappedFile::open(path).map_err(|error| error.to_string())?).map(Some)
    }

    pub(super) fn parse(map: MappedFile) -> Result<Self, String> {
        let wrong = || "it is not a file of tokens".to_owned();
        let bytes = map.bytes();
        let start = [MAGIC.as_slice(), &VERSION.to_ne_bytes(), &BYTE_ORDER.to_ne_bytes()].concat();
        if !bytes.starts_with(&start) {
            return Err("it is not a file of tokens of this version, or of this kind of machine".to_owned());
        }
        let end = bytes.len().checked_sub(END).ok_or_else(wrong)?;
        let place = |n: usize| {
            let eight = bytes.get(end + 8 * n..end + 8 * n + 8)?.try_into().ok()?;
            usize::try_from(u64::from_ne_bytes(eight)).ok()
        };
        let (Some(index), Some(json), Some(count)) = (place(0), place(1), place(2)) else {
            return Err(wrong());
        };
        let expected = count.checked_mul(ENTRY * WORD).and_then(|bytes| bytes.checked_add(index));
        let aligned = index.is_multiple_of(WORD) && u32::try_from(count).is_ok();
        if index < START || expected != Some(json) || json > end || !aligned {
            return Err(wrong());
        }
        let header: Header<serde_json::Value> =
            serde_json::from_slice(&bytes[json..end]).map_err(|error| error.to_string())?;
        let sources = header.sources.iter().cloned().map(Arc::new).collect();
        let file =
            Self { index: index / WORD..json / WORD, map, header, sources, touched: AtomicUsize::new(0) };
        file.release();
        Ok(file)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        self.map.path()
    }

    /// The writer's own header.
    ///
    /// # Errors
    /// When it is of another type.
    pub fn writer<M: for<'de> Deserialize<'de>>(&self) -> Result<M, serde_json::Error> {
        M::deserialize(&self.header.writer)
    }

    /// Hash of the sequences, as [`examples_sha256`](crate::objective::examples_sha256) computes it.
    pub fn sha256(&self) -> &str {
        &self.header.sha256
    }

    /// Number of sequences.
    pub fn len(&self) -> usize {
        self.index.len() / ENTRY
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Releases the resident pages of the map; they are read again when they are needed.
    pub fn release(&self) {
        self.touched.store(0, Ordering::Relaxed);
        self.map.release(0..self.map.bytes().len());
    }

    fn words(&self) -> &[u32] {
        let bytes = &self.map.bytes()[..self.index.end * WORD];
        bytemuck::try_cast_slice(bytes).unwrap_or(&[])
    }

    fn entry(&self, index: u32) -> (usize, usize, usize) {
        let at = self.index.start + index as usize * ENTRY;
        match self.words().get(at..at + ENTRY) {
            Some(&[low, high, tokens, targets]) if at + ENTRY <= self.index.end => {
                (whole(low, high) as usize, tokens as usize, targets as usize)
            }
            _ => (0, 0, 0),
        }
    }

    pub(crate) fn tokens(&self, index: u32) -> usize {
        self.entry(index).1
    }

    pub(crate) fn targets(&self, index: u32) -> usize {
        self.entry(index).2
    }

    fn head(&self, index: u32) -> (usize, &[u32]) {
        let start = self.entry(index).0;
        let head = start.checked_add(HEAD).and_then(|end| self.words().get(start..end));
        (start, head.unwrap_or(&[0; HEAD]))
    }

    pub(crate) fn ids(&self, index: u32) -> &[u32] {
        let (start, tokens, _) = self.entry(index);
        // Bounds what stays resident: a whole epoch would otherwise fill memory with pages of the file.
        if self.touched.fetch_add(tokens * WORD + FAULT, Ordering::Relaxed) > RESIDENT {
            self.release();
        }
        let ids =
            start.checked_add(HEAD).and_then(|start| self.words().get(start..start.checked_add(tokens)?));
        ids.unwrap_or(&[])
    }

    pub(crate) fn weights(&self, index: u32) -> Vec<f32> {
        let (start, tokens, _) = self.entry(index);
        let (_, head) = self.head(index);
        let runs = head[0] as usize;
        let start = start.saturating_add(HEAD).saturating_add(tokens);
        let runs = start.checked_add(2 * runs).and_then(|end| self.words().get(start..end)).unwrap_or(&[]);
        let mut weights = Vec::with_capacity(tokens);
        for run in runs.chunks_exact(2) {
            let length = (run[0] as usize).min(tokens - weights.len());
            weights.extend(std::iter::repeat_n(f32::from_bits(run[1]), length));
        }
        weights.resize(tokens, 0.0);
        weights
    }

    pub(crate) fn source(&self, index: u32) -> RowSource {
        let (_, head) = self.head(index);
        let file = self.sources.get(head[1] as usize).cloned().unwrap_or_default();
        RowSource { file, line: whole(head[2], head[3]) as usize }
    }
}

/// Compares a file's last 32 bytes with the hash of those before them, without mapping it.
fn verify(file: File) -> Result<(), String> {
    let text = |error: io::Error| error.to_string();
    let length = file.metadata().map_err(text)?.len();
    let torn = || "it ends early".to_owned();
    let hashed = length.checked_sub(32).ok_or_else(torn)?;
    let mut reader = BufReader::with_capacity(1 << 16, file);
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut left = hashed;
    while left > 0 {
        let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        reader.read_exact(&mut buffer[..most]).map_err(text)?;
        hasher.update(&buffer[..most]);
        left -= most as u64;
    }
    let mut written = [0; 32];
    reader.read_exact(&mut written).map_err(text)?;
    if hasher.finalize()[..] == written {
        Ok(())
    } else {
        Err("its contents are not those that were written (it was cut short, or damaged)".to_owned())
    }
}
