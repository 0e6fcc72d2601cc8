//! Sequences of tokens in one file that is mapped to be read. Written once, from front to back, under a temporary name,
//! and there whole or not at all.
//!
//! All words are of 32 bits, in the byte order of the machine:
//! - 16 bytes: `PARLORTK`, the version of this format (1), and a word that shows the byte order;
//! - per sequence: the number of runs of equal weights, the number of the source file, the line in two words, the ids, and
//!   per run its length and its weight;
//! - the index: per sequence four words: where it is (in words, as two), its tokens, its targets;
//! - what the writer says of the whole, as JSON;
//! - 56 bytes: where the index begins and where the JSON does (in bytes), the number of sequences, SHA-256 of all that
//!   is before it.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parlor_kernels::MappedFile;
use parlor_text::{Example, RowSource};
use parlor_track::atomic_file::{directory_of, sync_directory};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::parlor_state::hex;
use crate::sequence::{Sequence, identifying, targets};
use crate::storage::{StorageError, TEMPORARY_PREFIX, remove};

const MAGIC: &[u8; 8] = b"PARLORTK";
const VERSION: u32 = 1;
const BYTE_ORDER: u32 = 0x0102_0304;
const WORD: usize = 4;
const START: usize = 16;
/// Words before the ids of a sequence, and words of its entry in the index.
const HEAD: usize = 4;
const ENTRY: usize = 4;
const END: usize = 24 + 32;

/// Bytes of the map that may have become resident before all of it is let go of. A page fault brings its neighbours.
const RESIDENT: usize = 64 << 20;
const FAULT: usize = 64 << 10;

/// What every such file says of itself, beside what its writer says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct About<M> {
    sources: Vec<PathBuf>,
    sha256: String,
    writer: M,
}

/// A file that is being written. Dropped before it is finished, it is removed.
#[derive(Debug)]
pub struct TokenFileWriter {
    path: PathBuf,
    temporary: PathBuf,
    out: BufWriter<File>,
    hasher: Sha256,
    /// Words written.
    at: u64,
    index: Vec<[u32; ENTRY]>,
    sources: Vec<Arc<PathBuf>>,
    content: Sha256,
    /// Why nothing more can be written.
    failed: Option<io::Error>,
}

impl TokenFileWriter {
    /// Begins the file that will be at `path`, whose directory is made.
    ///
    /// # Errors
    /// What the system says.
    pub fn create(path: &Path) -> Result<Self, StorageError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let directory = directory_of(path);
        let temporary = directory.join(format!("{TEMPORARY_PREFIX}{name}-{}", std::process::id()));
        let open = || {
            std::fs::create_dir_all(directory)?;
            File::create(&temporary)
        };
        let file = open().map_err(|error| StorageError::new(path, error))?;
        let mut writer = Self {
            path: path.to_owned(),
            temporary,
            out: BufWriter::with_capacity(1 << 20, file),
            hasher: Sha256::new(),
            at: 0,
            index: Vec::new(),
            sources: Vec::new(),
            content: Sha256::new(),
            failed: None,
        };
        writer.bytes(MAGIC);
        writer.words(&[VERSION, BYTE_ORDER]);
        writer.at = (START / WORD) as u64;
        Ok(writer)
    }

    fn bytes(&mut self, bytes: &[u8]) {
        if self.failed.is_none() {
            self.hasher.update(bytes);
            self.failed = self.out.write_all(bytes).err();
        }
    }

    fn words(&mut self, words: &[u32]) {
        self.bytes(bytemuck::cast_slice(words));
        self.at += words.len() as u64;
    }

    /// Adds a sequence. What fails is said by [`Self::finish`]; nothing more is written then.
    pub fn push(&mut self, example: &Example) {
        let known = self.sources.iter().rposition(|file| **file == *example.source.file);
        let source = known.unwrap_or_else(|| {
            self.sources.push(Arc::clone(&example.source.file));
            self.sources.len() - 1
        });
        let runs: Vec<[u32; 2]> = example
            .weights
            .chunk_by(|a, b| a.to_bits() == b.to_bits())
            .map(|run| [run.len() as u32, run[0].to_bits()])
            .collect();
        let [low, high] = halves(example.source.line as u64);
        let [at_low, at_high] = halves(self.at);
        self.index.push([at_low, at_high, example.ids.len() as u32, targets(&example.weights) as u32]);
        self.content.update(identifying(&example.ids, &example.weights));
        self.words(&[runs.len() as u32, source as u32, low, high]);
        self.words(&example.ids);
        self.words(runs.as_flattened());
    }

    /// Ends the file, puts it in its place, and maps it. `writer` is kept in it.
    ///
    /// # Errors
    /// What the system says; the place is as it was then.
    pub fn finish<M: Serialize>(mut self, writer: M) -> Result<TokenFile, StorageError> {
        let about = About {
            sources: self.sources.iter().map(|file| (**file).clone()).collect(),
            sha256: hex(&self.content.clone().finalize()),
            writer,
        };
        let failed = |error: io::Error| StorageError::new(&self.path, error);
        let json = serde_json::to_vec(&about).map_err(|error| failed(error.into()))?;
        let index = self.at * WORD as u64;
        let entries = std::mem::take(&mut self.index);
        self.words(entries.as_flattened());
        let places = [index, self.at * WORD as u64, entries.len() as u64];
        drop(entries);
        self.bytes(&json);
        for place in places {
            self.bytes(&place.to_ne_bytes());
        }
        let digest = self.hasher.clone().finalize();
        let mut end = || -> io::Result<MappedFile> {
            if let Some(error) = self.failed.take() {
                return Err(error);
            }
            self.out.write_all(&digest)?;
            self.out.flush()?;
            self.out.get_ref().sync_all()?;
            std::fs::rename(&self.temporary, &self.path)?;
            sync_directory(directory_of(&self.path))?;
            MappedFile::open(&self.path)
        };
        let map = end().map_err(|error| StorageError::new(&self.path, error))?;
        let why = |why: String| StorageError::new(&self.path, why);
        TokenFile::parse(map).map_err(why)
    }
}

impl Drop for TokenFileWriter {
    fn drop(&mut self) {
        // Gone already when the file is in its place.
        remove(&self.temporary);
    }
}

fn halves(value: u64) -> [u32; 2] {
    [value as u32, (value >> 32) as u32]
}

fn whole(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

/// A file of sequences, mapped.
#[derive(Debug)]
pub struct TokenFile {
    map: MappedFile,
    /// Words before the index, and of it.
    index: std::ops::Range<usize>,
    about: About<serde_json::Value>,
    sources: Vec<Arc<PathBuf>>,
    touched: AtomicUsize,
}

impl TokenFile {
    /// Opens a file and reads all of it once to compare its checksum; none when there is no file.
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

    fn parse(map: MappedFile) -> Result<Self, String> {
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
        let about: About<serde_json::Value> =
            serde_json::from_slice(&bytes[json..end]).map_err(|error| error.to_string())?;
        let sources = about.sources.iter().cloned().map(Arc::new).collect();
        let file =
            Self { index: index / WORD..json / WORD, map, about, sources, touched: AtomicUsize::new(0) };
        file.release();
        Ok(file)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        self.map.path()
    }

    /// What the writer said of the whole.
    ///
    /// # Errors
    /// When it was said in other words.
    pub fn writer<M: for<'de> Deserialize<'de>>(&self) -> Result<M, serde_json::Error> {
        M::deserialize(&self.about.writer)
    }

    /// Hash of the sequences, as [`examples_sha256`](crate::identity::examples_sha256) has it.
    pub fn sha256(&self) -> &str {
        &self.about.sha256
    }

    /// Number of sequences.
    pub fn len(&self) -> usize {
        self.index.len() / ENTRY
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All sequences, in order.
    pub fn sequences(self) -> Vec<Sequence> {
        let count = self.len() as u32;
        let file = Arc::new(self);
        (0..count).map(|index| Sequence::Mapped { file: Arc::clone(&file), index }).collect()
    }

    /// Lets go of the memory of the map; it is read again when it is needed.
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
        // What was read before is let go of now and then: no more stays resident than is worth keeping.
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
