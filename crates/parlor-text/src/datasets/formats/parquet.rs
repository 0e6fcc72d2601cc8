//! `.parquet`, row group by row group. A damaged one is reported and skipped.
//!
//! Pages are decoded by the `parquet` crate: Snappy, gzip, LZ4 and zstd, with checksums verified where there
//! are any. A row's line is its number in the file. Leaves out Brotli pages and encrypted files.

use std::fs::File;

use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};

use super::columnar::{Wanted, rows, wanted};
use super::guarded::guarded;
use crate::datasets::intake::FileRows;

/// Rows decoded at a time.
const BATCH: usize = 64;

pub(crate) fn read(out: &mut FileRows<'_, '_>) {
    let opened = guarded(|| {
        let file = File::open(out.path()).map_err(|cause| cause.to_string())?;
        let metadata = ArrowReaderMetadata::load(&file, ArrowReaderOptions::new())
            .map_err(|cause| format!("not a readable Parquet file: {cause}"))?;
        let wanted = wanted(metadata.schema(), &out.options().wanted())?;
        Ok((file, metadata, wanted))
    });
    let (file, metadata, Wanted { columns, others }) = match opened {
        Ok(opened) => opened,
        Err(why) => return out.problem(0, why),
    };
    for column in others {
        out.unused(1, column);
    }
    let groups = metadata.metadata().row_groups();
    let mut first = 1;
    for (group, about) in groups.iter().enumerate() {
        if out.full() {
            return;
        }
        let count = usize::try_from(about.num_rows()).unwrap_or(0);
        let last = first + count.max(1) - 1;
        let reader = guarded(|| open_group(&file, &metadata, &columns, group));
        let mut line = first;
        let result = reader.and_then(|mut reader| {
            while let Some(rows) = guarded(|| next(&mut reader))? {
                for row in rows {
                    match row {
                        Ok(row) => out.push(line, row),
                        Err(why) => out.problem(line, why),
                    }
                    line += 1;
                }
            }
            Ok(())
        });
        if let Err(why) = result {
            let groups = groups.len();
            let why = format!("row group {} of {groups} (rows {first} to {last}): {why}", group + 1);
            out.problem(line, why);
        }
        first += count;
    }
}

fn open_group(
    file: &File,
    metadata: &ArrowReaderMetadata,
    columns: &[usize],
    group: usize,
) -> Result<ParquetRecordBatchReader, String> {
    let file = file.try_clone().map_err(|cause| cause.to_string())?;
    let mask = ProjectionMask::roots(metadata.parquet_schema(), columns.iter().copied());
    ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata.clone())
        .with_row_groups(vec![group])
        .with_projection(mask)
        .with_batch_size(BATCH)
        .build()
        .map_err(|cause| cause.to_string())
}

fn next(
    reader: &mut ParquetRecordBatchReader,
) -> Result<Option<Vec<Result<serde_json::Value, String>>>, String> {
    let batch = reader.next().transpose().map_err(|cause| cause.to_string())?;
    Ok(batch.map(|batch| rows(&batch)))
}
