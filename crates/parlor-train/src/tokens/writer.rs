//! Writes a token file front to back under a temporary name and renames it.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parlor_files::atomic_file::{directory_of, sync_directory};
use parlor_kernels::MappedFile;
use parlor_text::Example;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::file::{BYTE_ORDER, ENTRY, Header, MAGIC, START, TokenFile, VERSION, WORD, fingerprint, targets};
use crate::hash::hex;
use parlor_files::atomic_file::TEMPORARY_PREFIX;
use parlor_files::{WriteError, atomic_dir};

/// A token file that is being written. Dropped before [`Self::finish`], it is removed.
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
    /// Begins the file that will be at `path`, and creates its directory.
    ///
    /// # Errors
    /// What the system says.
    pub fn create(path: &Path) -> Result<Self, WriteError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let directory = directory_of(path);
        let temporary = directory.join(format!("{TEMPORARY_PREFIX}{name}-{}", std::process::id()));
        let open = || {
            std::fs::create_dir_all(directory)?;
            File::create(&temporary)
        };
        let file = open().map_err(|error| WriteError::new(path, error))?;
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

    /// Adds a sequence. After a failure nothing more is written, and [`Self::finish`] returns the error.
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
        self.content.update(fingerprint(&example.ids, &example.weights));
        self.words(&[runs.len() as u32, source as u32, low, high]);
        self.words(&example.ids);
        self.words(runs.as_flattened());
    }

    /// Ends the file, renames it into place, and maps it. `writer` is stored in its header.
    ///
    /// # Errors
    /// What the system says; nothing at `path` has changed then.
    pub fn finish<M: Serialize>(mut self, writer: M) -> Result<TokenFile, WriteError> {
        let header = Header {
            sources: self.sources.iter().map(|file| (**file).clone()).collect(),
            sha256: hex(&self.content.clone().finalize()),
            writer,
        };
        let failed = |error: io::Error| WriteError::new(&self.path, error);
        let json = serde_json::to_vec(&header).map_err(|error| failed(error.into()))?;
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
        let map = end().map_err(|error| WriteError::new(&self.path, error))?;
        let why = |why: String| WriteError::new(&self.path, why);
        TokenFile::parse(map).map_err(why)
    }
}

impl Drop for TokenFileWriter {
    fn drop(&mut self) {
        // Already renamed when the file was finished.
        atomic_dir::remove(&self.temporary);
    }
}

fn halves(value: u64) -> [u32; 2] {
    [value as u32, (value >> 32) as u32]
}
