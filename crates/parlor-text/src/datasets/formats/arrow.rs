//! `.arrow` and `.feather`: Arrow's IPC format, as a stream (which `datasets` caches and `save_to_disk`
//! writes) or as a file (Feather version 2), which is a stream between a magic number and an index that is
//! not needed here. A row's line is its number in the file. Leaves out Feather version 1.
//!
//! Messages are framed here and decoded by `arrow-ipc` one by one, because its own readers allocate the size
//! that a compressed buffer claims: a flipped bit there would end the program.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use arrow_array::RecordBatch;
use arrow_buffer::Buffer;
use arrow_ipc::reader::StreamDecoder;
use arrow_ipc::{MessageHeader, root_as_message};

use super::columnar::{Wanted, rows, wanted};
use super::guarded::guarded;
use crate::datasets::intake::FileRows;
use crate::datasets::rows::ReadOptions;

/// Largest metadata of a message, and largest column of a batch when decompressed, in bytes.
const MAX_HEADER: u32 = 256 << 20;
const MAX_COLUMN: i64 = 2 << 30;

pub(crate) fn read(out: &mut FileRows<'_, '_>) {
    let mut stream = match guarded(|| Stream::open(out.path(), out.options())) {
        Ok(stream) => stream,
        Err(why) => return out.problem(0, format!("not a readable Arrow file: {why}")),
    };
    let (mut line, mut number) = (1, 1);
    while !out.full() {
        match guarded(|| Ok(stream.next()?.map(|batch| rows(&batch)))) {
            Ok(None) => return,
            Ok(Some(rows)) => {
                for column in stream.others.drain(..) {
                    out.unused(line, column);
                }
                for row in rows {
                    match row {
                        Ok(row) => out.push(line, row),
                        Err(why) => out.problem(line, why),
                    }
                    line += 1;
                }
            }
            Err(why) => {
                return out.problem(line, format!("record batch {number}, from row {line} on: {why}"));
            }
        }
        number += 1;
    }
}

struct Stream<'a> {
    options: &'a ReadOptions,
    file: BufReader<File>,
    decoder: StreamDecoder,
    columns: Option<Vec<usize>>,
    /// Names of columns that are not read, until they are reported.
    others: Vec<String>,
}

impl<'a> Stream<'a> {
    fn open(path: &Path, options: &'a ReadOptions) -> Result<Self, String> {
        let io = |cause: std::io::Error| cause.to_string();
        let mut file = BufReader::new(File::open(path).map_err(io)?);
        let start = file.fill_buf().map_err(io)?;
        if start.is_empty() {
            return Err("it is empty".to_owned());
        }
        if start.starts_with(b"FEA1") {
            let advice = "write it anew as version 2 (`pyarrow.feather.write_feather`)";
            return Err(format!("it is Feather version 1; {advice}"));
        }
        if start.starts_with(b"ARROW1") {
            let magic = 8.min(start.len());
            file.consume(magic);
        }
        Ok(Self { file, decoder: StreamDecoder::new(), columns: None, others: Vec::new(), options })
    }

    /// The next batch; none at the end of the stream.
    fn next(&mut self) -> Result<Option<RecordBatch>, String> {
        loop {
            let Some(batch) = self.message()? else { return Ok(None) };
            let Some(batch) = batch else { continue };
            let columns = match &self.columns {
                Some(columns) => columns,
                None => {
                    let Wanted { columns, others } = wanted(batch.schema_ref(), &self.options.wanted())?;
                    self.others = others;
                    self.columns.insert(columns)
                }
            };
            return batch.project(columns).map(Some).map_err(|cause| cause.to_string());
        }
    }

    /// Reads and decodes a message. The outer option is none at the end of the stream, the inner one for a
    /// message that completes no batch: a schema, or a batch without a body, which the decoder completes with
    /// the next message.
    #[expect(clippy::option_option, reason = "the end of the stream is not a message without rows")]
    fn message(&mut self) -> Result<Option<Option<RecordBatch>>, String> {
        let word = |bytes: &[u8]| bytes.try_into().map(u32::from_le_bytes).unwrap_or_default();
        let mut size = self.exactly(4)?;
        if size.is_empty() {
            return Ok(None);
        }
        // Since version 0.15 a continuation marker of ones comes first.
        if word(&size) == u32::MAX {
            size = self.exactly(4)?;
        }
        let length = word(&size);
        if length == 0 {
            return Ok(None);
        }
        if length > MAX_HEADER {
            return Err(format!("a message says that {length} bytes describe it"));
        }
        let header = self.exactly(u64::from(length))?;
        let message = root_as_message(&header).map_err(|cause| cause.to_string())?;
        let body = u64::try_from(message.bodyLength()).map_err(|_| "a message of negative length")?;
        let body = self.exactly(body)?;
        check_sizes(&message, &body)?;
        let mut batch = None;
        for part in [size, header, body] {
            let mut part = Buffer::from(part);
            while !part.is_empty() {
                batch = self.decoder.decode(&mut part).map_err(|cause| cause.to_string())?;
            }
        }
        Ok(Some(batch))
    }

    /// The next `count` bytes; none of them at the end of the file.
    fn exactly(&mut self, count: u64) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        (&mut self.file).take(count).read_to_end(&mut bytes).map_err(|cause| cause.to_string())?;
        let found = bytes.len() as u64;
        if found == count || (found == 0 && count == 4) {
            return Ok(bytes);
        }
        Err(format!("it ends in the middle: {count} bytes were expected, {found} are there"))
    }
}

/// Refuses compressed columns that claim to be larger than [`MAX_COLUMN`].
fn check_sizes(message: &arrow_ipc::Message<'_>, body: &[u8]) -> Result<(), String> {
    let batch = match message.header_type() {
        MessageHeader::RecordBatch => message.header_as_record_batch(),
        MessageHeader::DictionaryBatch => message.header_as_dictionary_batch().and_then(|batch| batch.data()),
        _ => None,
    };
    let Some(batch) = batch.filter(|batch| batch.compression().is_some()) else { return Ok(()) };
    for column in batch.buffers().into_iter().flatten() {
        let claimed = usize::try_from(column.offset())
            .ok()
            .and_then(|start| body.get(start..start.checked_add(8)?)?.try_into().ok())
            .map_or(0, i64::from_le_bytes);
        // -1: this column is not compressed.
        if column.length() >= 8 && !(-1..=MAX_COLUMN).contains(&claimed) {
            return Err(format!("a column says that it has {claimed} bytes once decompressed"));
        }
    }
    Ok(())
}
