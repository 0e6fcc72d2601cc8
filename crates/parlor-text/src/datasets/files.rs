//! Which files there are, what format each has, and plain text.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{DataError, DataReport, Dataset, Row, RowSource, SourcedRow};

/// Formats that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    JsonLines,
    Json,
    Text,
}

const READ: &str = ".jsonl, .json, .txt and .md";
/// Formats that users have and a later version reads.
const LATER: &[&str] = &["csv", "tsv", "parquet", "arrow", "gz", "zst", "pdf", "docx", "html", "htm", "xlsx"];
/// A document is held in memory while it is tokenised.
const MAX_TEXT: u64 = 1 << 30;

pub(super) fn format(path: &Path) -> Option<Format> {
    match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
        "jsonl" | "ndjson" => Some(Format::JsonLines),
        "json" => Some(Format::Json),
        "txt" | "md" => Some(Format::Text),
        _ => None,
    }
}

/// The files to read, sorted; those of other formats go to the report.
pub(super) fn list(path: &Path, report: &mut DataReport) -> Result<Vec<PathBuf>, DataError> {
    let error = |path: &Path, why: String| DataError::Path { path: path.to_owned(), why };
    let metadata = std::fs::metadata(path).map_err(|cause| match cause.kind() {
        std::io::ErrorKind::NotFound => error(path, "no such file or directory".to_owned()),
        _ => error(path, cause.to_string()),
    })?;
    if !metadata.is_dir() {
        return match format(path) {
            Some(_) => Ok(vec![path.to_owned()]),
            None => Err(error(path, unsupported(path))),
        };
    }
    let (mut files, mut directories) = (Vec::new(), vec![path.to_owned()]);
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).map_err(|cause| error(&directory, cause.to_string()))? {
            let entry = entry.map_err(|cause| error(&directory, cause.to_string()))?;
            let path = entry.path();
            if entry.file_name().to_string_lossy().starts_with('.') {
                continue;
            }
            // Links to files are followed, links to directories are not: they may lead in a circle.
            let kind = entry.file_type().map_err(|cause| error(&path, cause.to_string()))?;
            if kind.is_dir() {
                directories.push(path);
            } else if path.is_file() {
                match format(&path) {
                    Some(_) => files.push(path),
                    None => report.ignored.push(path),
                }
            }
        }
    }
    files.sort();
    report.ignored.sort();
    if files.is_empty() {
        let found = match report.ignored.first() {
            None => format!("the directory is empty; put {READ} files there"),
            Some(first) => format!("no {READ} file here; {}: {}", first.display(), unsupported(first)),
        };
        return Err(error(path, found));
    }
    Ok(files)
}

fn unsupported(path: &Path) -> String {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    if LATER.contains(&extension.to_ascii_lowercase().as_str()) {
        format!("`.{extension}` is not in this build yet; convert it to {READ}")
    } else {
        format!("not a data file that Parlor reads ({READ})")
    }
}

/// A text file is one row.
pub(super) fn read_text(file: &Arc<PathBuf>, dataset: &mut Dataset) {
    let size = std::fs::metadata(file.as_path()).map_or(0, |metadata| metadata.len());
    if size > MAX_TEXT {
        dataset.report.problem(file, 0, format!("{size} bytes; a text file may have at most {MAX_TEXT}"));
        return;
    }
    let bytes = match std::fs::read(file.as_path()) {
        Ok(bytes) => bytes,
        Err(cause) => return dataset.report.problem(file, 0, cause.to_string()),
    };
    let text = match std::str::from_utf8(without_bom(&bytes)) {
        Ok(text) => text,
        Err(cause) => {
            let line = 1 + bytes[..cause.valid_up_to()].iter().filter(|&&byte| byte == b'\n').count();
            return dataset.report.problem(file, line, INVALID_UTF8);
        }
    };
    let text = text.replace("\r\n", "\n");
    if text.trim().is_empty() {
        return dataset.report.problem(file, 0, "the file is empty");
    }
    let source = RowSource { file: Arc::clone(file), line: 1 };
    dataset.rows.push(SourcedRow { row: Row::Text(text), source });
}

pub(super) const INVALID_UTF8: &str =
    "not valid UTF-8; save the file as UTF-8 (`iconv -t UTF-8` converts it)";

pub(super) fn without_bom(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes)
}
