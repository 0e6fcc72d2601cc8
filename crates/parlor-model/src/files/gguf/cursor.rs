//! Reads a header from start to end; an error at the end of the file says what was to be read.

use std::ops::Range;
use std::path::Path;

use super::damage::damaged;
use crate::error::ModelLoadError;

/// Longest key or tensor name, in bytes, that the format allows.
const LONGEST_NAME: usize = 65_535;

pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    pub(super) path: &'a Path,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8], path: &'a Path) -> Self {
        Self { bytes, at: 0, path }
    }

    /// Bytes read so far.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// The next `count` bytes, as a range of the file's.
    pub(super) fn range(&mut self, count: usize, what: &str) -> Result<Range<usize>, ModelLoadError> {
        if count > self.left() {
            let place = format!("byte {}", self.at);
            let what = format!(
                "the file is truncated or damaged: {what} takes {count} bytes, and {} are left",
                self.left()
            );
            return Err(damaged(self.path, &place, what));
        }
        let start = self.at;
        self.at += count;
        Ok(start..self.at)
    }

    pub(super) fn bytes(&mut self, count: usize, what: &str) -> Result<&'a [u8], ModelLoadError> {
        let range = self.range(count, what)?;
        Ok(self.bytes.get(range).unwrap_or_default())
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], ModelLoadError> {
        let bytes = self.bytes(N, what)?;
        Ok(bytes.try_into().unwrap_or([0; N]))
    }

    pub(super) fn u32(&mut self, what: &str) -> Result<u32, ModelLoadError> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    pub(super) fn u64(&mut self, what: &str) -> Result<u64, ModelLoadError> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    /// A count of entries of at least `least` bytes each; an error when the file is too short for them.
    pub(super) fn count(&mut self, least: usize, what: &str) -> Result<usize, ModelLoadError> {
        let at = self.at;
        let count = self.u64(what)?;
        let fits = usize::try_from(count).ok().filter(|count| *count <= self.left() / least.max(1));
        fits.ok_or_else(|| {
            let left = self.left();
            let what = format!(
                "the file is truncated or damaged: {what}: {count} are announced, and the {left} bytes that are left have no room"
            );
            damaged(self.path, &format!("byte {at}"), what)
        })
    }

    /// The bytes of a string, as a range of the file's.
    pub(super) fn text_range(&mut self, what: &str) -> Result<Range<usize>, ModelLoadError> {
        let length = self.count(1, what)?;
        self.range(length, what)
    }

    /// A key or a tensor's name.
    pub(super) fn name(&mut self, what: &str) -> Result<&'a str, ModelLoadError> {
        let at = self.at;
        let range = self.text_range(what)?;
        let bytes = self.bytes.get(range).unwrap_or_default();
        match std::str::from_utf8(bytes) {
            Ok(name) if (1..=LONGEST_NAME).contains(&name.len()) => Ok(name),
            _ => {
                let found = bytes.len();
                let what =
                    format!("{what} should be a text of 1 to {LONGEST_NAME} bytes, but is {found} others");
                Err(damaged(self.path, &format!("byte {at}"), what))
            }
        }
    }
}
