//! Writes rows to `.jsonl` and `.json` files, also compressed. A file appears whole or not at all.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use serde_json::Value;

use super::formats::{Compression, Format, format};

/// Writes rows to a new file whose name says its format, and returns its size in bytes.
///
/// # Errors
/// When the format cannot be written, the file exists, or the system refuses.
pub fn write_rows(path: &Path, rows: impl Iterator<Item = Value>) -> io::Result<u64> {
    let lines = match format(path) {
        Some(Format::JsonLines) => true,
        Some(Format::Json) => false,
        _ => {
            let why =
                "not a format that rows are written in: take .jsonl or .json, or .jsonl.gz or .jsonl.zst";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
    };
    if path.exists() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "it exists; remove it, or name another file",
        ));
    }
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(".tmp-").tempfile_in(directory)?;
    let out = BufWriter::new(file.as_file_mut());
    match Compression::of(path) {
        Compression::None => drop(write_all(out, rows, lines)?),
        Compression::Gzip => {
            let out = flate2::write::GzEncoder::new(out, flate2::Compression::default());
            write_all(out, rows, lines)?.finish()?.flush()?;
        }
        Compression::Zstd => {
            let out = zstd::stream::write::Encoder::new(out, 0)?;
            write_all(out, rows, lines)?.finish()?.flush()?;
        }
    }
    file.as_file().sync_all()?;
    let size = file.as_file().metadata()?.len();
    file.persist_noclobber(path).map_err(|error| error.error)?;
    Ok(size)
}

/// One row a line; in a `.json` file, between brackets.
fn write_all<W: Write>(mut out: W, rows: impl Iterator<Item = Value>, lines: bool) -> io::Result<W> {
    let (open, between, close) = if lines { ("", "\n", "\n") } else { ("[\n", ",\n", "\n]\n") };
    out.write_all(open.as_bytes())?;
    for (index, row) in rows.enumerate() {
        if index > 0 {
            out.write_all(between.as_bytes())?;
        }
        serde_json::to_writer(&mut out, &row)?;
    }
    out.write_all(close.as_bytes())?;
    out.flush()?;
    Ok(out)
}
