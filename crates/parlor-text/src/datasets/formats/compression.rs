//! Opens files, compressed (gzip, zstd) or not.
//!
//! Decompressed sizes are bounded where they are read: per row by [`crate::datasets::intake::MAX_ROW`], per
//! whole file by the caller. zstd windows over 128 MiB (`--long=28` and more) are refused by the library.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

/// How a file is compressed, by the end of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
}

const BUFFER: usize = 1 << 16;

impl Compression {
    pub(crate) fn of(path: &Path) -> Self {
        match path.extension().and_then(|end| end.to_str()).map(str::to_ascii_lowercase).as_deref() {
            Some("gz" | "gzip") => Compression::Gzip,
            Some("zst" | "zstd") => Compression::Zstd,
            _ => Compression::None,
        }
    }
}

/// The content of `path`, decompressed when its name says that it is compressed.
pub(crate) fn open(path: &Path) -> io::Result<Box<dyn BufRead>> {
    let file = BufReader::with_capacity(BUFFER, File::open(path)?);
    let decoder: Box<dyn Read> = match Compression::of(path) {
        Compression::None => return Ok(Box::new(file)),
        Compression::Gzip => {
            Box::new(Decoder { format: "gzip", inner: flate2::bufread::MultiGzDecoder::new(file) })
        }
        Compression::Zstd => {
            Box::new(Decoder { format: "zstd", inner: zstd::stream::read::Decoder::with_buffer(file)? })
        }
    };
    Ok(Box::new(BufReader::with_capacity(BUFFER, decoder)))
}

/// A decompressor whose errors name the compression.
struct Decoder<R> {
    format: &'static str,
    inner: R,
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer).map_err(|cause| {
            let format = self.format;
            let why = match cause.kind() {
                io::ErrorKind::UnexpectedEof => "it ends in the middle".to_owned(),
                _ => cause.to_string(),
            };
            io::Error::new(cause.kind(), format!("the {format} file is damaged: {why}"))
        })
    }
}

/// The content of a file, of at most `limit` bytes decompressed.
pub(crate) fn read_whole(path: &Path, limit: u64) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let reader = open(path).map_err(|cause| cause.to_string())?;
    reader.take(limit + 1).read_to_end(&mut bytes).map_err(|cause| cause.to_string())?;
    if bytes.len() as u64 > limit {
        return Err(format!("the file has more than {limit} bytes, which is as much as is read whole"));
    }
    Ok(bytes)
}

pub(crate) const INVALID_UTF8: &str =
    "not valid UTF-8; save the file as UTF-8 (`iconv -t UTF-8` converts it)";

/// Bytes as text, or the offset of the first invalid byte. A zero byte is invalid: it is a sign of UTF-16,
/// which for plain English is otherwise valid UTF-8.
pub(crate) fn utf8(bytes: &[u8]) -> Result<&str, usize> {
    let text = std::str::from_utf8(bytes).map_err(|cause| cause.valid_up_to());
    match (text, bytes.iter().position(|&byte| byte == 0)) {
        (Err(invalid), Some(zero)) => Err(invalid.min(zero)),
        (Ok(_), Some(zero)) => Err(zero),
        (text, None) => text,
    }
}

pub(crate) fn without_bom(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes)
}
