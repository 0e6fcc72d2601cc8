//! `.csv` and `.tsv`: a header with the names of the columns, then one row per record (RFC 4180, as `csv` reads it).
//!
//! A cell is a text. Lists of messages and of tools are in their cells as JSON; a label is 0, 1, true or false.

use std::io::{self, BufRead, Read};

use csv::{ByteRecord, ReaderBuilder};
use serde_json::{Map, Value};

use super::compression::{self, INVALID_UTF8};
use super::file_rows::{FileRows, MAX_ROW};

/// Reads a table whose cells are separated by `delimiter`.
pub(super) fn read(out: &mut FileRows<'_, '_>, delimiter: u8) {
    let reader = match compression::open(out.path()) {
        Ok(reader) => Bounded { inner: reader, left: MAX_ROW, last: b'\n' },
        Err(cause) => return out.problem(0, cause.to_string()),
    };
    let mut reader = ReaderBuilder::new().delimiter(delimiter).flexible(true).from_reader(reader);
    let header = match header(&mut reader) {
        Ok(Some(header)) => header,
        Ok(None) => return,
        Err(why) => return out.problem(1, why),
    };
    let options = out.options();
    let kinds: Vec<&str> = header.iter().map(|column| options.canonical(column)).collect();
    let mut record = ByteRecord::new();
    while !out.full() {
        reader.get_mut().left = MAX_ROW;
        let before = reader.position().line();
        match reader.read_byte_record(&mut record) {
            Ok(true) => {}
            Ok(false) => return,
            Err(cause) => return out.problem(place(before), cause.to_string()),
        }
        // Counted back from the end: where a record begins, `csv` counts the blank lines before it as its own.
        let breaks = record.iter().flatten().filter(|&&byte| byte == b'\n').count();
        let line = place(reader.position().line()).saturating_sub(breaks + 1).max(place(before));
        match row(&header, &kinds, &record) {
            Ok(value) => out.push(line, value),
            Err(why) => out.problem(line, why),
        }
    }
}

fn place(line: u64) -> usize {
    usize::try_from(line).unwrap_or(usize::MAX)
}

/// The names of the columns; none in an empty file.
fn header(reader: &mut csv::Reader<impl Read>) -> Result<Option<Vec<String>>, String> {
    let record = reader.byte_headers().map_err(|cause| cause.to_string())?;
    let mut names: Vec<String> = Vec::with_capacity(record.len());
    for cell in record {
        let name = std::str::from_utf8(cell).map_err(|_| INVALID_UTF8)?.trim().to_owned();
        if !name.is_empty() && names.contains(&name) {
            return Err(format!("the header has two columns `{name}`"));
        }
        names.push(name);
    }
    Ok(Some(names).filter(|names| !names.is_empty()))
}

fn row(header: &[String], kinds: &[&str], record: &ByteRecord) -> Result<Value, String> {
    if record.len() != header.len() {
        let (found, expected) = (record.len(), header.len());
        return Err(format!(
            "{found} fields; the header has {expected} ({}). Put a field that holds a separator or a line break in \
             double quotes",
            header.join(", ")
        ));
    }
    let mut map = Map::new();
    for ((name, kind), cell) in header.iter().zip(kinds).zip(record) {
        let cell = std::str::from_utf8(cell).map_err(|_| INVALID_UTF8)?;
        if !name.is_empty() {
            map.insert(name.clone(), value(name, kind, cell)?);
        }
    }
    Ok(Value::Object(map))
}

/// A cell's text, or what it stands for.
fn value(name: &str, kind: &str, cell: &str) -> Result<Value, String> {
    let start = cell.trim_start();
    let messages = start.strip_prefix('[').is_some_and(|rest| rest.trim_start().starts_with('{'));
    Ok(match kind {
        "messages" | "conversations" | "conversation" | "tools" if start.is_empty() => Value::Null,
        "messages" | "conversations" | "conversation" => serde_json::from_str(cell).map_err(|cause| {
            format!("`{name}` is not JSON: {cause}; a list of messages was expected, written as JSON")
        })?,
        // A prompt may be a text that begins like a list: only what is JSON counts as messages.
        "prompt" | "completion" | "chosen" | "rejected" if messages => {
            serde_json::from_str(cell).unwrap_or_else(|_| cell.into())
        }
        "label" => match cell.trim() {
            "1" | "1.0" => true.into(),
            "0" | "0.0" => false.into(),
            word if word.eq_ignore_ascii_case("true") => true.into(),
            word if word.eq_ignore_ascii_case("false") => false.into(),
            _ => cell.into(),
        },
        _ => cell.into(),
    })
}

/// Gives out so many bytes and then fails, so that a quote that is never closed does not read a whole file. Line
/// breaks are single bytes and the last line has one, so that lines can be counted.
struct Bounded<R> {
    inner: R,
    left: usize,
    last: u8,
}

impl<R: BufRead> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Err(io::Error::other(format!(
                "the row has more than {MAX_ROW} bytes; is a double quote in it never closed?"
            )));
        }
        let most = buffer.len().min(self.left);
        let available = self.inner.fill_buf()?;
        if available.is_empty() {
            let ended = self.last == b'\n' || most == 0;
            self.last = b'\n';
            return Ok(if ended {
                0
            } else {
                buffer[0] = b'\n';
                1
            });
        }
        let read = available.len().min(most);
        let mut kept = 0;
        for &byte in &available[..read] {
            // "\r\n" was given out as "\n" when its first byte came.
            let second = byte == b'\n' && self.last == b'\r';
            self.last = byte;
            if !second {
                buffer[kept] = if byte == b'\r' { b'\n' } else { byte };
                kept += 1;
            }
        }
        self.inner.consume(read);
        self.left -= read;
        if kept == 0 && read > 0 { self.read(buffer) } else { Ok(kept) }
    }
}
