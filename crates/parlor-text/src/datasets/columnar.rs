//! Arrow record batches as rows: what `.parquet` and `.arrow` files have in common.
//!
//! A null is left out of its row or struct, as TRL's `remove_none_values` does: a table has every key in every row,
//! null where the row never had it. Types that no row is made of (dates, decimals, maps of anything but texts) are
//! left out likewise.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{DataType, Schema};
use serde_json::{Map, Value};

/// Deepest nesting of lists and structs; JSON rows have the same bound.
const MAX_DEPTH: usize = 100;

/// Indices of the columns of these names, which rows are made of, or of all when there is none of them, so that the rows' own error
/// can name what is there.
pub(super) fn wanted(schema: &Schema, names: &[&str]) -> Result<Vec<usize>, String> {
    let fields = schema.fields();
    let known = |index: &usize| names.contains(&fields[*index].name().as_str());
    let mut columns: Vec<usize> = (0..fields.len()).filter(known).collect();
    if columns.is_empty() {
        columns = (0..fields.len()).collect();
    }
    match columns.iter().find(|&&index| depth(fields[index].data_type()) > MAX_DEPTH) {
        Some(&index) => {
            Err(format!("column `{}` is nested deeper than {MAX_DEPTH} levels", fields[index].name()))
        }
        None => Ok(columns),
    }
}

fn depth(data_type: &DataType) -> usize {
    let mut level: Vec<&DataType> = vec![data_type];
    for depth in 0.. {
        if level.is_empty() || depth > MAX_DEPTH {
            return depth;
        }
        let inner = level.into_iter().flat_map(|data_type| match data_type {
            DataType::List(field)
            | DataType::LargeList(field)
            | DataType::ListView(field)
            | DataType::LargeListView(field)
            | DataType::Map(field, _)
            | DataType::FixedSizeList(field, _) => vec![field.data_type()],
            DataType::Struct(fields) => fields.iter().map(|field| field.data_type()).collect(),
            DataType::Dictionary(_, values) => vec![values.as_ref()],
            _ => Vec::new(),
        });
        level = inner.collect();
    }
    MAX_DEPTH
}

/// The rows of a batch.
pub(super) fn rows(batch: &RecordBatch) -> Vec<Value> {
    let schema = batch.schema_ref();
    let row = |index: usize| {
        let cells = schema.fields().iter().zip(batch.columns());
        object(cells.map(|(field, column)| (field.name(), column)), index)
    };
    (0..batch.num_rows()).map(row).collect()
}

fn object<'a>(cells: impl Iterator<Item = (&'a String, &'a ArrayRef)>, index: usize) -> Value {
    let filled = cells.filter_map(|(name, column)| Some((name.clone(), cell(column, index)?)));
    Value::Object(filled.collect::<Map<_, _>>())
}

/// One cell; none when it is null, or of a type that rows are not made of.
fn cell(array: &dyn Array, index: usize) -> Option<Value> {
    if array.is_null(index) {
        return None;
    }
    let list = |items: ArrayRef| {
        Value::Array((0..items.len()).map(|at| cell(&items, at).unwrap_or_default()).collect())
    };
    Some(match array.data_type() {
        DataType::Boolean => array.as_boolean().value(index).into(),
        DataType::Int8 => array.as_primitive::<Int8Type>().value(index).into(),
        DataType::Int16 => array.as_primitive::<Int16Type>().value(index).into(),
        DataType::Int32 => array.as_primitive::<Int32Type>().value(index).into(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(index).into(),
        DataType::UInt8 => array.as_primitive::<UInt8Type>().value(index).into(),
        DataType::UInt16 => array.as_primitive::<UInt16Type>().value(index).into(),
        DataType::UInt32 => array.as_primitive::<UInt32Type>().value(index).into(),
        DataType::UInt64 => array.as_primitive::<UInt64Type>().value(index).into(),
        DataType::Float16 => f64::from(array.as_primitive::<Float16Type>().value(index)).into(),
        DataType::Float32 => array.as_primitive::<Float32Type>().value(index).into(),
        DataType::Float64 => array.as_primitive::<Float64Type>().value(index).into(),
        DataType::Utf8 => array.as_string::<i32>().value(index).into(),
        DataType::LargeUtf8 => array.as_string::<i64>().value(index).into(),
        DataType::Utf8View => array.as_string_view().value(index).into(),
        DataType::Binary => std::str::from_utf8(array.as_binary::<i32>().value(index)).ok()?.into(),
        DataType::LargeBinary => std::str::from_utf8(array.as_binary::<i64>().value(index)).ok()?.into(),
        DataType::BinaryView => std::str::from_utf8(array.as_binary_view().value(index)).ok()?.into(),
        DataType::List(_) => list(array.as_list::<i32>().value(index)),
        DataType::LargeList(_) => list(array.as_list::<i64>().value(index)),
        DataType::ListView(_) => list(array.as_list_view::<i32>().value(index)),
        DataType::LargeListView(_) => list(array.as_list_view::<i64>().value(index)),
        DataType::FixedSizeList(..) => list(array.as_fixed_size_list().value(index)),
        DataType::Struct(fields) => {
            let columns = array.as_struct().columns();
            object(fields.iter().map(|field| field.name()).zip(columns), index)
        }
        DataType::Map(..) => {
            let entries = array.as_map().value(index);
            let (keys, values) = (entries.column(0), entries.column(1));
            let entry = |at| match cell(keys, at)? {
                Value::String(key) => Some((key, cell(values, at)?)),
                _ => None,
            };
            Value::Object((0..entries.len()).filter_map(entry).collect())
        }
        DataType::Dictionary(..) => {
            let dictionary = array.as_any_dictionary();
            return cell(dictionary.values(), *dictionary.normalized_keys().get(index)?);
        }
        _ => return None,
    })
}
