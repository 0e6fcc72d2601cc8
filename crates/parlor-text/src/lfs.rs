//! Git LFS pointers: placeholders in a clone for large files that were not fetched.
//!
//! Source: `docs/spec.md` of git-lfs. A pointer is a text of a few lines, the first of which names the
//! specification.

use std::io::Read;
use std::path::Path;

const FIRST_LINE: &[u8] = b"version https://git-lfs.github.com/spec/v1";
/// Pointers are smaller than this many bytes, by the specification.
const LARGEST: u64 = 1024;

/// The message for a pointer.
pub const LFS_POINTER: &str =
    "this is a Git LFS pointer, not the file; run `git lfs pull` where it lies, or download the file";

/// Whether a file that begins with `bytes` is a pointer.
pub fn is_lfs_pointer(bytes: &[u8]) -> bool {
    bytes.starts_with(FIRST_LINE)
}

/// Whether a file is a pointer. False when it cannot be read.
pub fn is_lfs_pointer_file(path: &Path) -> bool {
    let first = || -> std::io::Result<Vec<u8>> {
        let file = std::fs::File::open(path)?;
        let about = file.metadata()?;
        let mut first = Vec::with_capacity(FIRST_LINE.len());
        if about.is_file() && about.len() < LARGEST {
            file.take(FIRST_LINE.len() as u64).read_to_end(&mut first)?;
        }
        Ok(first)
    };
    first().is_ok_and(|first| is_lfs_pointer(&first))
}
