//! The data files that a path stands for: a file, a directory, or a pattern.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::formats::{Compression, format};
use super::report::{DataError, DataReport};

const READ: &str = ".jsonl, .json, .csv, .tsv, .parquet, .arrow, .txt, .md, .html, .pdf and .docx";
/// Other formats, and what to do with their files.
const OTHERS: &[(&str, &str)] = &[
    ("xlsx", "save it as .csv"),
    ("xls", "save it as .csv"),
    ("doc", "save it as .docx"),
    ("odt", "save it as .docx"),
    ("rtf", "save it as .docx"),
    ("pkl", "write it as .parquet"),
    ("zip", "unpack it"),
    ("tar", "unpack it"),
    ("tgz", "unpack it"),
];
/// Metadata files that libraries write beside data.
const METADATA: &[&str] = &["dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"];

/// The files to read, sorted; files of other formats go to the report. `path` is a file, a directory that is
/// read whole, or a pattern (`data/**/*.jsonl.gz`) of either.
pub(crate) fn list(path: &Path, report: &mut DataReport) -> Result<Vec<PathBuf>, DataError> {
    let mut found = Found { files: Vec::new(), report };
    match (std::fs::metadata(path), path.to_str()) {
        (Ok(metadata), _) if !metadata.is_dir() => {
            return match format(path) {
                Some(_) => Ok(vec![path.to_owned()]),
                None => Err(error(path, unsupported(path))),
            };
        }
        (Ok(_), _) => found.directory(path)?,
        (Err(_), Some(pattern)) if pattern.contains(['*', '?', '[']) => found.pattern(path, pattern)?,
        (Err(cause), _) if cause.kind() == ErrorKind::NotFound => {
            return Err(error(path, "no such file or directory"));
        }
        (Err(cause), _) => return Err(error(path, cause.to_string())),
    }
    let Found { mut files, report } = found;
    files.sort();
    files.dedup();
    report.ignored.sort();
    report.ignored.dedup();
    if files.is_empty() {
        let found = match report.ignored.first() {
            None => format!("the directory is empty; put {READ} files there"),
            Some(first) => format!("no {READ} file here; {}: {}", first.display(), unsupported(first)),
        };
        return Err(error(path, found));
    }
    Ok(files)
}

fn error(path: &Path, why: impl Into<String>) -> DataError {
    DataError::Path { path: path.to_owned(), why: why.into() }
}

struct Found<'a> {
    files: Vec<PathBuf>,
    report: &'a mut DataReport,
}

impl Found<'_> {
    fn file(&mut self, path: PathBuf) {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if format(&path).is_some() && !METADATA.contains(&name) {
            self.files.push(path);
        } else {
            self.report.ignored.push(path);
        }
    }

    fn directory(&mut self, path: &Path) -> Result<(), DataError> {
        let mut directories = vec![path.to_owned()];
        while let Some(directory) = directories.pop() {
            let failed = |cause: std::io::Error| error(&directory, cause.to_string());
            for entry in std::fs::read_dir(&directory).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                if entry.file_name().to_string_lossy().starts_with('.') {
                    continue;
                }
                let path = entry.path();
                // Links to files are followed, links to directories are not: they may form a cycle.
                let kind = entry.file_type().map_err(|cause| error(&path, cause.to_string()))?;
                if kind.is_dir() {
                    directories.push(path);
                } else if path.is_file() {
                    self.file(path);
                }
            }
        }
        Ok(())
    }

    fn pattern(&mut self, path: &Path, pattern: &str) -> Result<(), DataError> {
        let options = glob::MatchOptions { require_literal_leading_dot: true, ..Default::default() };
        let matches = glob::glob_with(pattern, options)
            .map_err(|cause| error(path, format!("not a pattern of file names: {cause}")))?;
        let mut any = false;
        for found in matches {
            let found = found.map_err(|cause| error(cause.path(), cause.error().to_string()))?;
            any = true;
            if found.is_dir() {
                self.directory(&found)?;
            } else if found.is_file() {
                self.file(found);
            }
        }
        if any { Ok(()) } else { Err(error(path, "no file matches the pattern")) }
    }
}

fn unsupported(path: &Path) -> String {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    let known = OTHERS.iter().find(|(other, _)| extension.eq_ignore_ascii_case(other));
    if let Some((_, advice)) = known {
        format!("`.{extension}` is not read; {advice} ({READ})")
    } else if Compression::of(path) != Compression::None {
        format!("what is compressed in it? name it by its content, as `rows.jsonl.{extension}` ({READ})")
    } else {
        format!("not a data file that Parlor reads ({READ})")
    }
}
