//! Arrow record batches as rows, for `.parquet` and `.arrow` files.
//!
//! A null is left out of its struct, as TRL's `remove_none_values` does: a table has every key in every row,
//! null where the row never had it. Texts of the extension type `arrow.json`, which `datasets` 5 writes for
//! values of mixed types, are parsed. Types that rows cannot use (dates, decimals, maps with keys other than
//! texts) are refused by name.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef, RecordBatch, StructArray};
use arrow_schema::extension::EXTENSION_TYPE_NAME_KEY;
use arrow_schema::{DataType, Field, FieldRef, Schema};
use serde_json::{Map, Value};

/// Deepest nesting of lists and structs. JSON rows have the same limit.
const MAX_DEPTH: usize = 100;

/// The columns of a table that rows use.
pub(crate) struct Wanted {
    /// Their indices.
    pub(crate) columns: Vec<usize>,
    /// Names of the other columns.
    pub(crate) others: Vec<String>,
}

/// The columns of these names. All columns if there is none of them, so that the error of a row can name them.
pub(crate) fn wanted(schema: &Schema, names: &[&str]) -> Result<Wanted, String> {
    let fields = schema.fields();
    let known = |index: &usize| names.contains(&fields[*index].name().as_str());
    let (mut columns, others): (Vec<usize>, Vec<usize>) = (0..fields.len()).partition(known);
    let others = others.into_iter().map(|index| fields[index].name().clone());
    let others = if columns.is_empty() { Vec::new() } else { others.collect() };
    if columns.is_empty() {
        columns = (0..fields.len()).collect();
    }
    match columns.iter().find(|&&index| depth(fields[index].data_type()) > MAX_DEPTH) {
        Some(&index) => {
            Err(format!("column `{}` is nested deeper than {MAX_DEPTH} levels", fields[index].name()))
        }
        None => Ok(Wanted { columns, others }),
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

/// The rows of a batch, or their errors.
pub(crate) fn rows(batch: &RecordBatch) -> Vec<Result<Value, String>> {
    let schema = batch.schema_ref();
    let row = |index: usize| {
        let mut row = Map::new();
        for (field, column) in schema.fields().iter().zip(batch.columns()) {
            // A null in a column stays null; the row decides what that means.
            let value = cell(field, column, index).map_err(|why| format!("`{}` {why}", field.name()))?;
            row.insert(field.name().clone(), value.unwrap_or_default());
        }
        Ok(Value::Object(row))
    };
    (0..batch.num_rows()).map(row).collect()
}

fn object<'a>(
    cells: impl Iterator<Item = (&'a FieldRef, &'a ArrayRef)>,
    index: usize,
) -> Result<Value, String> {
    let mut map = Map::new();
    for (field, column) in cells {
        if let Some(value) = cell(field, column, index)? {
            map.insert(field.name().clone(), value);
        }
    }
    Ok(Value::Object(map))
}

/// Name of the extension type whose texts are JSON.
const JSON: &str = "arrow.json";

/// One cell; none when it is null.
fn cell(field: &Field, array: &dyn Array, index: usize) -> Result<Option<Value>, String> {
    if array.is_null(index) {
        return Ok(None);
    }
    let list = |field: &Field, items: ArrayRef| {
        let item = |at| cell(field, &items, at).map(Option::unwrap_or_default);
        (0..items.len()).map(item).collect::<Result<Vec<_>, _>>().map(Value::Array)
    };
    let text = |bytes: &[u8]| match std::str::from_utf8(bytes) {
        Ok(text) => Ok(Value::from(text)),
        Err(_) => Err("holds bytes that are not text".to_owned()),
    };
    let value = match array.data_type() {
        DataType::Null => return Ok(None),
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
        DataType::Float32 => f64::from(array.as_primitive::<Float32Type>().value(index)).into(),
        DataType::Float64 => array.as_primitive::<Float64Type>().value(index).into(),
        DataType::Utf8 => array.as_string::<i32>().value(index).into(),
        DataType::LargeUtf8 => array.as_string::<i64>().value(index).into(),
        DataType::Utf8View => array.as_string_view().value(index).into(),
        DataType::Binary => text(array.as_binary::<i32>().value(index))?,
        DataType::LargeBinary => text(array.as_binary::<i64>().value(index))?,
        DataType::BinaryView => text(array.as_binary_view().value(index))?,
        DataType::List(item) => list(item, array.as_list::<i32>().value(index))?,
        DataType::LargeList(item) => list(item, array.as_list::<i64>().value(index))?,
        DataType::ListView(item) => list(item, array.as_list_view::<i32>().value(index))?,
        DataType::LargeListView(item) => list(item, array.as_list_view::<i64>().value(index))?,
        DataType::FixedSizeList(item, _) => list(item, array.as_fixed_size_list().value(index))?,
        DataType::Struct(fields) => object(fields.iter().zip(array.as_struct().columns()), index)?,
        DataType::Map(entry, _) => map(entry, &array.as_map().value(index))?,
        DataType::Dictionary(..) => {
            let dictionary = array.as_any_dictionary();
            let Some(&key) = dictionary.normalized_keys().get(index) else { return Ok(None) };
            return cell(field, dictionary.values(), key);
        }
        other => return Err(format!("holds values of Arrow's type {other}, which rows are not made of")),
    };
    match value {
        Value::String(text)
            if field.metadata().get(EXTENSION_TYPE_NAME_KEY).is_some_and(|name| name == JSON) =>
        {
            let value = serde_json::from_str(&text);
            value.map(Some).map_err(|cause| format!("is of type `{JSON}`, but holds no JSON: {cause}"))
        }
        value => Ok(Some(value)),
    }
}

fn map(entry: &Field, entries: &StructArray) -> Result<Value, String> {
    let DataType::Struct(fields) = entry.data_type() else { return Ok(Value::Null) };
    let mut map = Map::new();
    for at in 0..entries.len() {
        match cell(&fields[0], entries.column(0), at)? {
            Some(Value::String(key)) => {
                if let Some(value) = cell(&fields[1], entries.column(1), at)? {
                    map.insert(key, value);
                }
            }
            _ => return Err("holds a map whose keys are not texts".to_owned()),
        }
    }
    Ok(Value::Object(map))
}
