//! `.csv` and `.tsv`: a header with the names of the columns, then one row per record (RFC 4180, as `csv`
//! reads it).
//!
//! A cell is a text, or null when it is empty or one of pandas' null values, as in `datasets`. Lists of
//! messages and of tools are JSON in a cell. The separator of a `.csv` file is found in its header: a comma,
//! or the semicolon or tab of spreadsheets in many languages; Excel's line `sep=;` sets it too.

use std::io::{self, BufRead, Read};

use csv::{ByteRecord, ReaderBuilder};
use serde_json::{Map, Value};

use super::compression::{self, INVALID_UTF8, utf8, without_bom};
use crate::datasets::intake::{FileRows, MAX_ROW};

/// Reads a table with this delimiter. None: found in the header.
pub(crate) fn read(out: &mut FileRows<'_, '_>, delimiter: Option<u8>) {
    let mut reader = match compression::open(out.path()) {
        Ok(reader) => reader,
        Err(cause) => return out.problem(0, cause.to_string()),
    };
    let (delimiter, first_line) = match delimiter {
        Some(delimiter) => (delimiter, 0),
        None => match separator(&mut reader) {
            Ok(found) => found,
            Err(cause) => return out.problem(0, cause.to_string()),
        },
    };
    let reader = Bounded { inner: reader, left: MAX_ROW, last: b'\n', quoted: false };
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
            Err(cause) => return out.problem(first_line + line_number(before), cause.to_string()),
        }
        // Counted back from the end, because `csv` counts blank lines before a record as part of it.
        let breaks = record.iter().flatten().filter(|&&byte| byte == b'\n').count();
        let line = line_number(reader.position().line()).saturating_sub(breaks + 1).max(line_number(before));
        let line = first_line + line;
        match row(&header, &kinds, &record) {
            Ok(value) => out.push(line, value),
            Err(why) => out.problem(line, why),
        }
    }
}

/// The separator: that of Excel's first line, which is skipped, or the most frequent one in the header
/// outside quotes. Also returns the number of skipped lines.
fn separator(reader: &mut impl BufRead) -> io::Result<(u8, usize)> {
    let start = reader.fill_buf()?;
    let bom = start.len() - without_bom(start).len();
    let end = start.iter().position(|&byte| byte == b'\n').unwrap_or(start.len());
    let line = start.get(bom..end).unwrap_or_default();
    let declared = line.strip_prefix(b"sep=").map(|rest| rest.strip_suffix(b"\r").unwrap_or(rest));
    if let Some(&[separator]) = declared {
        let used = (end + 1).min(start.len());
        reader.consume(used);
        return Ok((separator, 1));
    }
    let mut quoted = false;
    let mut counts = SEPARATORS.map(|separator| (0, separator));
    for &byte in line {
        quoted ^= byte == b'"';
        if let Some((count, _)) = counts.iter_mut().find(|(_, separator)| *separator == byte && !quoted) {
            *count += 1;
        }
    }
    // Of equally frequent ones the first; the comma comes first.
    let best = counts.iter().rev().max_by_key(|(count, _)| *count);
    Ok((best.map_or(b',', |(_, separator)| *separator), 0))
}

const SEPARATORS: [u8; 3] = [b',', b';', b'\t'];

/// The null values of pandas, and so of `datasets`.
const NOTHING: &[&str] = &[
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A",
    "NA", "NULL", "NaN", "None", "n/a", "nan", "null",
];

fn line_number(line: u64) -> usize {
    usize::try_from(line).unwrap_or(usize::MAX)
}

/// The names of the columns; none in an empty file.
fn header(reader: &mut csv::Reader<impl Read>) -> Result<Option<Vec<String>>, String> {
    let record = reader.byte_headers().map_err(|cause| cause.to_string())?;
    let mut names: Vec<String> = Vec::with_capacity(record.len());
    for cell in record {
        let name = utf8(cell).map_err(|_| INVALID_UTF8)?.trim().to_owned();
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
        let cell = utf8(cell).map_err(|_| INVALID_UTF8)?;
        if !name.is_empty() {
            map.insert(name.clone(), value(name, kind, cell)?);
        }
    }
    Ok(Value::Object(map))
}

/// The value of a cell: null, JSON or its text.
fn value(name: &str, kind: &str, cell: &str) -> Result<Value, String> {
    if NOTHING.contains(&cell) {
        return Ok(Value::Null);
    }
    let start = cell.trim_start();
    let messages = start.strip_prefix('[').is_some_and(|rest| rest.trim_start().starts_with('{'));
    Ok(match kind {
        "messages" | "conversations" | "conversation" => serde_json::from_str(cell).map_err(|cause| {
            format!("`{name}` is not JSON: {cause}; a list of messages was expected, written as JSON")
        })?,
        // A prompt may be a text that begins like a list, so only valid JSON counts as messages.
        "prompt" | "completion" | "chosen" | "rejected" if messages => {
            serde_json::from_str(cell).unwrap_or_else(|_| cell.into())
        }
        _ => cell.into(),
    })
}

/// Reads at most `left` bytes and then fails, so that a quote that is never closed does not read a whole
/// file. Normalizes line breaks between rows to single bytes and adds a missing last one, so that lines can
/// be counted; keeps those within quotes.
struct Bounded<R> {
    inner: R,
    left: usize,
    last: u8,
    quoted: bool,
}

impl<R: BufRead> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(self.left);
        if most < 2 {
            return Err(io::Error::other(format!(
                "the row has more than {MAX_ROW} bytes; is a double quote in it never closed?"
            )));
        }
        let available = self.inner.fill_buf()?;
        if available.is_empty() {
            let ended = self.last == b'\n';
            self.last = b'\n';
            return Ok(if ended {
                0
            } else {
                buffer[0] = b'\n';
                1
            });
        }
        let (mut used, mut kept) = (0, 0);
        while used < available.len() && kept + 2 <= most {
            let byte = available[used];
            used += 1;
            // A "\r" waits for the byte after it.
            if self.last == b'\r' && (byte != b'\n' || self.quoted) {
                buffer[kept] = if byte == b'\n' { b'\r' } else { b'\n' };
                kept += 1;
            }
            self.quoted ^= byte == b'"';
            self.last = byte;
            if byte != b'\r' {
                buffer[kept] = byte;
                kept += 1;
            }
        }
        self.inner.consume(used);
        self.left -= used;
        if kept == 0 { self.read(buffer) } else { Ok(kept) }
    }
}
