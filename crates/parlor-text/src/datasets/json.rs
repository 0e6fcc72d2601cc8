//! JSON Lines, read row by row in bounded memory, and whole JSON files.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;
use serde_json::value::RawValue;

use super::files::{INVALID_UTF8, without_bom};
use super::row::{Row, RowKind};
use super::{Dataset, RowSource, SourcedRow};

/// Longest row. A longer one is reported and passed over, and is never held in memory whole.
const MAX_ROW: usize = 16 << 20;
/// Largest `.json` file: it has to be held whole.
const MAX_WHOLE: u64 = 2 << 30;

/// Reads one row per line; blank lines are passed over.
pub(super) fn read_lines(file: &Arc<PathBuf>, dataset: &mut Dataset) {
    let mut reader = match File::open(file.as_path()) {
        Ok(handle) => BufReader::with_capacity(1 << 16, handle),
        Err(cause) => return dataset.report.problem(file, 0, cause.to_string()),
    };
    let (mut line, mut buffer, mut kind) = (0, Vec::new(), None);
    loop {
        line += 1;
        buffer.clear();
        match read_line(&mut reader, &mut buffer) {
            Ok(Length::End) => return,
            Ok(Length::Whole) => {}
            Ok(Length::TooLong(bytes)) => {
                let why = format!("the row has {bytes} bytes; at most {MAX_ROW} are read");
                dataset.report.problem(file, line, why);
                continue;
            }
            Err(cause) => return dataset.report.problem(file, line, cause.to_string()),
        }
        let bytes = if line == 1 { without_bom(&buffer) } else { &buffer };
        let Ok(text) = std::str::from_utf8(bytes) else {
            dataset.report.problem(file, line, INVALID_UTF8);
            continue;
        };
        if !text.trim().is_empty() {
            take(file, line, text.trim(), &mut kind, dataset);
        }
    }
}

enum Length {
    End,
    Whole,
    TooLong(usize),
}

/// One line without its end; of a line that is too long only the length is kept.
fn read_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> std::io::Result<Length> {
    let mut length = 0;
    loop {
        let available = reader.fill_buf()?;
        if available.is_empty() {
            return Ok(match length {
                0 => Length::End,
                length if length > MAX_ROW => Length::TooLong(length),
                _ => Length::Whole,
            });
        }
        let end = available.iter().position(|&byte| byte == b'\n');
        let part = &available[..end.unwrap_or(available.len())];
        length += part.len();
        if length <= MAX_ROW {
            line.extend_from_slice(part);
        }
        let used = end.map_or(part.len(), |end| end + 1);
        reader.consume(used);
        if end.is_some() {
            return Ok(if length > MAX_ROW { Length::TooLong(length) } else { Length::Whole });
        }
    }
}

/// Reads a file that holds a list of rows, or an object with one under `data`, `rows`, `examples`,
/// `conversations`, or one row alone.
pub(super) fn read_whole(file: &Arc<PathBuf>, dataset: &mut Dataset) {
    let size = std::fs::metadata(file.as_path()).map_or(0, |metadata| metadata.len());
    if size > MAX_WHOLE {
        let why =
            format!("{size} bytes; a .json file may have at most {MAX_WHOLE}: use .jsonl, one row a line");
        return dataset.report.problem(file, 0, why);
    }
    let bytes = match std::fs::read(file.as_path()) {
        Ok(bytes) => bytes,
        Err(cause) => return dataset.report.problem(file, 0, cause.to_string()),
    };
    let line_of = |offset: usize| 1 + bytes[..offset].iter().filter(|&&byte| byte == b'\n').count();
    let text = match std::str::from_utf8(without_bom(&bytes)) {
        Ok(text) => text,
        Err(cause) => return dataset.report.problem(file, line_of(cause.valid_up_to()), INVALID_UTF8),
    };
    if text.trim().is_empty() {
        return dataset.report.problem(file, 0, "the file is empty");
    }
    let rows = match rows(text) {
        Ok(rows) => rows,
        Err(cause) => {
            let why = format!("not valid JSON: {cause}");
            return dataset.report.problem(file, cause.line().max(1), why);
        }
    };
    let mut kind = None;
    for row in rows {
        let offset = row.get().as_ptr() as usize - bytes.as_ptr() as usize;
        take(file, line_of(offset), row.get(), &mut kind, dataset);
    }
}

fn rows(text: &str) -> Result<Vec<&RawValue>, serde_json::Error> {
    if text.trim_start().starts_with('[') {
        return serde_json::from_str(text);
    }
    let object: std::collections::BTreeMap<String, &RawValue> = match serde_json::from_str(text) {
        Ok(object) => object,
        // Neither a list nor an object: one row, whose own check says what it is.
        Err(_) => return Ok(vec![serde_json::from_str::<&RawValue>(text)?]),
    };
    let list_of_rows = |raw: &&RawValue| {
        let first = raw.get().trim_start().strip_prefix('[').map(str::trim_start);
        first.is_some_and(|first| first.starts_with('{'))
    };
    let is_row = ["messages", "prompt", "instruction", "text"].iter().any(|key| object.contains_key(*key));
    for name in ["data", "rows", "examples", "conversations"] {
        match object.get(name).copied().filter(list_of_rows) {
            // `conversations` with `from` in its first entry is one ShareGPT row, not a list of rows.
            Some(raw) if !is_row && (name != "conversations" || !is_turns(raw)) => {
                return serde_json::from_str(raw.get());
            }
            _ => {}
        }
    }
    Ok(vec![serde_json::from_str::<&RawValue>(text)?])
}

fn is_turns(raw: &RawValue) -> bool {
    let items: Vec<Value> = serde_json::from_str(raw.get()).unwrap_or_default();
    items.first().is_some_and(|item| item.get("from").is_some() || item.get("role").is_some())
}

/// Checks a row and adds it to the dataset, or its problem to the report.
fn take(file: &Arc<PathBuf>, line: usize, text: &str, kind: &mut Option<RowKind>, dataset: &mut Dataset) {
    let value: Value = match serde_json::from_str(text) {
        Ok(value) => value,
        Err(cause) => {
            let why = format!("not valid JSON (column {}): {cause}", cause.column());
            return dataset.report.problem(file, line, why);
        }
    };
    match Row::from_value(value) {
        Ok(row) => {
            let this = row.kind();
            let expected = *kind.get_or_insert(this);
            if this != expected {
                let why =
                    format!("a row of kind `{this}` in a file of `{expected}` rows; keep one kind per file");
                return dataset.report.problem(file, line, why);
            }
            dataset.rows.push(SourcedRow { row, source: RowSource { file: Arc::clone(file), line } });
        }
        Err(why) => dataset.report.problem(file, line, why),
    }
}
