//! The format of a file, by the end of its name.

use std::path::Path;

use super::compression::Compression;
use super::document::DocumentKind;

/// Formats that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    JsonLines,
    Json,
    Text,
    Csv,
    Tsv,
    Parquet,
    Arrow,
    Document(DocumentKind),
}

/// The format of a file; none when it is not read.
pub(crate) fn format(path: &Path) -> Option<Format> {
    let compressed = Compression::of(path) != Compression::None;
    let name = if compressed { Path::new(path.file_stem()?) } else { path };
    let format = match name.extension()?.to_str()?.to_ascii_lowercase().as_str() {
        "jsonl" | "ndjson" => Format::JsonLines,
        "json" => Format::Json,
        "txt" | "md" => Format::Text,
        "html" | "htm" => Format::Document(DocumentKind::Html),
        "pdf" => Format::Document(DocumentKind::Pdf),
        "docx" => Format::Document(DocumentKind::Docx),
        "csv" => Format::Csv,
        "tsv" => Format::Tsv,
        // These formats compress their content themselves.
        "parquet" if !compressed => Format::Parquet,
        "arrow" | "feather" if !compressed => Format::Arrow,
        _ => return None,
    };
    Some(format)
}
