//! A read-only memory map of a weight file, shared by the tensors that lie in it.
//!
//! Leaves out: advice to the kernel about huge pages and read-ahead.

use std::fs::File;
use std::path::{Path, PathBuf};

/// A whole file, mapped read-only. Tensors that lie in it hold it through an `Arc`.
#[derive(Debug)]
pub struct MappedFile {
    path: PathBuf,
    map: memmap2::Mmap,
}

impl MappedFile {
    /// Maps `path`. An empty file maps to zero bytes.
    ///
    /// # Errors
    /// What the operating system says when it cannot open or map the file.
    pub fn open(path: &Path) -> std::io::Result<Self> {
        let file = File::open(path)?;
        // SAFETY: the map is private to this process and never written through. A file that another process
        // truncates while it is mapped raises SIGBUS, as in every program that maps weights; Parlor itself
        // replaces model files by rename only, which leaves an existing map on the old file.
        let map = unsafe { memmap2::Mmap::map(&file)? };
        Ok(Self { path: path.to_owned(), map })
    }

    /// Zeros that are in no file and take no memory as long as nobody reads them.
    ///
    /// # Errors
    /// What the operating system says when there is no address space.
    pub fn zeros(bytes: usize) -> std::io::Result<Self> {
        let map = memmap2::MmapMut::map_anon(bytes)?.make_read_only()?;
        Ok(Self { path: PathBuf::new(), map })
    }

    /// The file's bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// Lets go of the pages of `bytes`: they count as this process's memory no longer, and are read again when needed.
    pub fn release(&self, bytes: std::ops::Range<usize>) {
        #[cfg(unix)]
        if bytes.start < bytes.end && bytes.end <= self.map.len() {
            // SAFETY: the map is of a file and never written through, so the pages come back as they were.
            let result = unsafe {
                self.map.unchecked_advise_range(
                    memmap2::UncheckedAdvice::DontNeed,
                    bytes.start,
                    bytes.end - bytes.start,
                )
            };
            // Advice that is not taken costs memory only.
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
