//! JSON Lines, read row by row in bounded memory, and whole JSON files.

use std::io::BufRead;

use serde_json::Value;
use serde_json::value::RawValue;

use super::compression::{self, INVALID_UTF8, utf8, without_bom};
use crate::datasets::intake::{FileRows, MAX_ROW};

/// Largest `.json` file in bytes. It is in memory as a whole.
const MAX_WHOLE: u64 = 2 << 30;

/// Reads one row per line; skips blank lines.
pub(crate) fn read_lines(out: &mut FileRows<'_, '_>) {
    let mut reader = match compression::open(out.path()) {
        Ok(reader) => reader,
        Err(cause) => return out.problem(0, cause.to_string()),
    };
    let (mut line, mut buffer, mut is_first) = (0, Vec::new(), true);
    while !out.full() {
        line += 1;
        buffer.clear();
        match read_line(&mut reader, &mut buffer) {
            Ok(Length::End) => return,
            Ok(Length::Whole) => {}
            Ok(Length::TooLong(bytes)) => {
                let why = format!("the row has {bytes} bytes; at most {MAX_ROW} are read");
                out.problem(line, why);
                continue;
            }
            Err(cause) => return out.problem(line, cause.to_string()),
        }
        let bytes = if line == 1 { without_bom(&buffer) } else { &buffer };
        let Ok(text) = utf8(bytes) else {
            out.problem(line, INVALID_UTF8);
            continue;
        };
        if text.trim().is_empty() {
            continue;
        }
        // Rows do not begin with `[`: the file is a list of rows, as in a `.json` file.
        if is_first && text.trim_start().starts_with('[') {
            return read_whole(out);
        }
        is_first = false;
        parse(out, line, text.trim());
    }
}

enum Length {
    End,
    Whole,
    TooLong(usize),
}

/// Reads a line without its line break. Of a line that is too long only the length is kept.
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

/// Reads a file with a list of rows, an object with a list under `data`, `rows`, `examples` or
/// `conversations`, a single row, or one row per line, whatever its name.
pub(crate) fn read_whole(out: &mut FileRows<'_, '_>) {
    let bytes = match compression::read_whole(out.path(), MAX_WHOLE) {
        Ok(bytes) => bytes,
        Err(cause) => {
            return out.problem(0, format!("{cause} (`.jsonl`, one row a line, has no such limit)"));
        }
    };
    let line_of = |offset: usize| 1 + bytes[..offset].iter().filter(|&&byte| byte == b'\n').count();
    let text = match utf8(without_bom(&bytes)) {
        Ok(text) => text,
        Err(end) => return out.problem(line_of(end), INVALID_UTF8),
    };
    if text.trim().is_empty() {
        return out.problem(0, "the file is empty");
    }
    let rows = match rows(text) {
        Ok(rows) => rows,
        Err(_) if is_lines(text) => return parse_lines(out, text),
        Err(cause) => {
            let why = format!("not valid JSON: {cause}");
            return out.problem(cause.line().max(1), why);
        }
    };
    for row in rows {
        let offset = row.get().as_ptr() as usize - bytes.as_ptr() as usize;
        parse(out, line_of(offset), row.get());
    }
}

/// Whether a text has one JSON object per line.
fn is_lines(text: &str) -> bool {
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let is_row =
        |line: &str| line.trim_start().starts_with('{') && serde_json::from_str::<&RawValue>(line).is_ok();
    lines.next().is_some_and(is_row) && lines.next().is_some()
}

fn parse_lines(out: &mut FileRows<'_, '_>, text: &str) {
    for (index, line) in text.lines().enumerate() {
        if !line.trim().is_empty() {
            parse(out, index + 1, line.trim());
        }
    }
}

fn rows(text: &str) -> Result<Vec<&RawValue>, serde_json::Error> {
    if text.trim_start().starts_with('[') {
        return serde_json::from_str(text);
    }
    let object: std::collections::BTreeMap<String, &RawValue> = match serde_json::from_str(text) {
        Ok(object) => object,
        // Neither a list nor an object: a single row, whose own check reports it.
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

/// Parses a row and passes it on.
fn parse(out: &mut FileRows<'_, '_>, line: usize, text: &str) {
    match serde_json::from_str(text) {
        Ok(value) => out.push(line, value),
        Err(cause) => {
            let why = format!("not valid JSON (column {}): {cause}", cause.column());
            out.problem(line, why);
        }
    }
}
