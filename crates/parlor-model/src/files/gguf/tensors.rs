//! The tensor table of a GGUF file: name, shape, dtype and byte range of each.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use parlor_kernels::{BlockFormat, DType, MappedFile};

use super::cursor::Cursor;
use super::damage::damaged;
use super::metadata::Metadata;
use crate::error::ModelLoadError;
use crate::files::weight_files::{Container, StoredDtype, TensorEntry, WeightFiles};

/// Fewest bytes of an entry: a name, one dimension, type and offset.
pub(super) const LEAST_BYTES: usize = 8 + 1 + 4 + 8 + 4 + 8;
const MOST_DIMENSIONS: u32 = 4;
const LARGEST_ALIGNMENT: u64 = 1 << 16;

/// The dtype of ggml's type number.
fn stored_dtype(id: u32) -> StoredDtype {
    let block = |format| StoredDtype::Weight(DType::Block(format));
    let other = |name: &str| StoredDtype::Other(name.to_owned());
    match id {
        0 => StoredDtype::Weight(DType::F32),
        1 => StoredDtype::Weight(DType::F16),
        30 => StoredDtype::Weight(DType::Bf16),
        2 => block(BlockFormat::Q4_0),
        3 => block(BlockFormat::Q4_1),
        6 => block(BlockFormat::Q5_0),
        7 => block(BlockFormat::Q5_1),
        8 => block(BlockFormat::Q8_0),
        12 => block(BlockFormat::Q4K),
        13 => block(BlockFormat::Q5K),
        14 => block(BlockFormat::Q6K),
        10 => other("Q2_K"),
        11 => other("Q3_K"),
        16..=19 | 21..=23 | 29 => other("IQ (with a table of its own)"),
        20 => other("IQ4_NL"),
        24..=27 => other("integer"),
        28 => other("F64"),
        34 | 35 => other("TQ (ternary)"),
        39 => other("MXFP4"),
        40 => other("NVFP4"),
        id => StoredDtype::Other(format!("number {id}")),
    }
}

/// A row of the table; byte offsets are relative to the start of the data.
struct TensorRow<'a> {
    name: &'a str,
    shape: Vec<usize>,
    dtype: StoredDtype,
    bytes: Range<u64>,
}

fn row<'a>(cursor: &mut Cursor<'a>, alignment: u64) -> Result<TensorRow<'a>, ModelLoadError> {
    let name = cursor.name("a tensor's name")?;
    let (path, place) = (cursor.path, format!("tensor `{name}`"));
    let dimensions = cursor.u32("a number of dimensions")?;
    if !(1..=MOST_DIMENSIONS).contains(&dimensions) {
        let what = format!("it has {dimensions} dimensions, and 1 to {MOST_DIMENSIONS} are allowed");
        return Err(damaged(path, &place, what));
    }
    // The file lists the fastest dimension first.
    let mut shape = Vec::new();
    let mut elements = 1usize;
    for _ in 0..dimensions {
        let size = cursor.u64("a dimension")?;
        let product = usize::try_from(size).ok().filter(|size| *size > 0).and_then(|size| {
            shape.insert(0, size);
            // Four bytes an element still fit the address space.
            elements.checked_mul(size).filter(|product| *product < isize::MAX as usize / 8)
        });
        elements = product.ok_or_else(|| damaged(path, &place, format!("a dimension of it is {size}")))?;
    }
    let dtype = stored_dtype(cursor.u32("a type")?);
    let offset = cursor.u64("an offset")?;
    if !offset.is_multiple_of(alignment) {
        let what = format!("it begins at byte {offset} of the data, which is no multiple of {alignment}");
        return Err(damaged(path, &place, what));
    }
    let size = match dtype {
        StoredDtype::Weight(dtype) => {
            let columns = shape.last().copied().unwrap_or(1);
            if let DType::Block(format) = dtype
                && columns % format.elements() != 0
            {
                let what = format!(
                    "its rows of {columns} elements are no whole number of {} blocks, which have {}",
                    format.name(),
                    format.elements()
                );
                return Err(damaged(path, &place, what));
            }
            dtype.bytes(elements) as u64
        }
        // A dtype that is not read: only its name matters.
        StoredDtype::Other(_) => 0,
    };
    let end = offset
        .checked_add(size)
        .ok_or_else(|| damaged(path, &place, format!("it begins at byte {offset} of the data")))?;
    Ok(TensorRow { name, shape, dtype, bytes: offset..end })
}

pub(super) fn read(
    cursor: &mut Cursor<'_>,
    file: &Arc<MappedFile>,
    metadata: &Metadata,
    count: usize,
) -> Result<WeightFiles, ModelLoadError> {
    const KEY: &str = "general.alignment";
    let alignment = metadata.integer(KEY)?.unwrap_or(32);
    if !alignment.is_power_of_two() || alignment > LARGEST_ALIGNMENT {
        return Err(metadata.wrong(KEY, &format!("a power of two up to {LARGEST_ALIGNMENT}")));
    }
    let mut rows = Vec::new();
    for _ in 0..count {
        rows.push(row(cursor, alignment)?);
    }
    let data = (cursor.position() as u64).next_multiple_of(alignment);
    check_places(&rows, data, file.bytes().len() as u64, cursor.path)?;
    let mut weights = WeightFiles::of_container(Container::Gguf, cursor.path);
    for row in rows {
        let bytes = (data + row.bytes.start) as usize..(data + row.bytes.end) as usize;
        weights.insert(row.name, TensorEntry::new(file, bytes, row.shape, row.dtype, Container::Gguf))?;
    }
    Ok(weights)
}

/// Checks that every tensor is within the file, and that none overlap.
fn check_places(rows: &[TensorRow<'_>], data: u64, file: u64, path: &Path) -> Result<(), ModelLoadError> {
    let mut order: Vec<&TensorRow<'_>> = rows.iter().collect();
    order.sort_by_key(|row| (row.bytes.start, row.bytes.end));
    let mut previous: Option<&TensorRow<'_>> = None;
    for row in order {
        let place = format!("tensor `{}`", row.name);
        if data.checked_add(row.bytes.end).is_none_or(|end| end > file) {
            let what = format!(
                "the file is truncated or damaged: the tensor ends {} bytes after byte {data}, where the data begin, and \
                 the file has {file}",
                row.bytes.end
            );
            return Err(damaged(path, &place, what));
        }
        if let Some(previous) = previous.filter(|previous| previous.bytes.end > row.bytes.start) {
            let what = format!("it overlaps the tensor `{}`", previous.name);
            return Err(damaged(path, &place, what));
        }
        if row.bytes.end > row.bytes.start {
            previous = Some(row);
        }
    }
    Ok(())
}
