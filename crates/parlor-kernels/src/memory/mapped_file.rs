//! A read-only memory map of a weight file, shared by the tensors in it.
//!
//! Leaves out: advice to the system about huge pages and read-ahead.

use std::fs::File;
use std::path::{Path, PathBuf};

/// A whole file, mapped read-only. Tensors in it hold it through an `Arc`.
#[derive(Debug)]
pub struct MappedFile {
    path: PathBuf,
    map: memmap2::Mmap,
}

impl MappedFile {
    /// Maps `path`. An empty file maps to zero bytes.
    ///
    /// # Errors
    /// The system's error when it cannot open or map the file.
    pub fn open(path: &Path) -> std::io::Result<Self> {
        let file = File::open(path)?;
        // SAFETY: the map is private to this process and never written through. A file that another process
        // truncates while it is mapped raises SIGBUS, as in every program that maps weights; Parlor itself
        // replaces model files by rename only, which leaves an existing map on the old file.
        let map = unsafe { memmap2::Mmap::map(&file)? };
        Ok(Self { path: path.to_owned(), map })
    }

    /// `bytes` zeros without a file, which take no memory until they are read.
    ///
    /// # Errors
    /// The system's error when there is not enough address space.
    pub fn zeros(bytes: usize) -> std::io::Result<Self> {
        let map = memmap2::MmapMut::map_anon(bytes)?.make_read_only()?;
        Ok(Self { path: PathBuf::new(), map })
    }

    /// The file's bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// Releases the pages of `bytes`: they no longer count as resident memory, and are read from the file again on the
    /// next access.
    pub fn release(&self, bytes: std::ops::Range<usize>) {
        #[cfg(unix)]
        if bytes.start < bytes.end && bytes.end <= self.map.len() {
            // SAFETY: the map is read-only, so the pages come back with the same contents.
            let result = unsafe {
                self.map.unchecked_advise_range(
                    memmap2::UncheckedAdvice::DontNeed,
                    bytes.start,
                    bytes.end - bytes.start,
                )
            };
            // Best effort: otherwise the pages only stay resident.
            let _ = result;
        }
        #[cfg(not(unix))]
        let _ = bytes;
    }

    /// The path that was opened, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }
}
