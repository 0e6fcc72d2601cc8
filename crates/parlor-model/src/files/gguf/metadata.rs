//! The keys and values at the beginning of a GGUF file, typed as they are asked for. Texts and lists stay in
//! the file.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use parlor_kernels::MappedFile;

use super::cursor::Cursor;
use super::damage::{at, damaged};
use crate::error::{LoadErrorKind, ModelLoadError};

/// Fewest bytes of a key with its value.
pub(super) const LEAST_BYTES: usize = 8 + 1 + 4 + 1;
const TEXT: u32 = 8;
const LIST: u32 = 9;

/// A value by kind; lists and texts by their range in the file.
#[derive(Clone, Debug)]
enum Value {
    Integer(i128),
    Number(f64),
    Flag(bool),
    Text(Range<usize>),
    /// Type of the elements, their number and their bytes.
    List(u32, usize, Range<usize>),
}

/// All keys.
#[derive(Clone, Debug)]
pub(crate) struct Metadata {
    file: Arc<MappedFile>,
    values: HashMap<String, Value>,
}

/// Bytes of a number of this type; `None` for other types.
fn size(kind: u32) -> Option<usize> {
    match kind {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}

/// The number in `bytes`, of which there are as many as its type has.
fn number(kind: u32, bytes: &[u8]) -> Option<Value> {
    let signed = |value: i64| Some(Value::Integer(i128::from(value)));
    match (kind, bytes) {
        (0, &[a]) => signed(i64::from(a)),
        (1, &[a]) => signed(i64::from(a.cast_signed())),
        (7, &[a]) if a < 2 => Some(Value::Flag(a == 1)),
        (2, &[a, b]) => signed(i64::from(u16::from_le_bytes([a, b]))),
        (3, &[a, b]) => signed(i64::from(i16::from_le_bytes([a, b]))),
        (4, &[a, b, c, d]) => signed(i64::from(u32::from_le_bytes([a, b, c, d]))),
        (5, &[a, b, c, d]) => signed(i64::from(i32::from_le_bytes([a, b, c, d]))),
        (6, &[a, b, c, d]) => Some(Value::Number(f64::from(f32::from_le_bytes([a, b, c, d])))),
        (10, _) => Some(Value::Integer(i128::from(u64::from_le_bytes(bytes.try_into().ok()?)))),
        (11, _) => Some(Value::Integer(i128::from(i64::from_le_bytes(bytes.try_into().ok()?)))),
        (12, _) => Some(Value::Number(f64::from_le_bytes(bytes.try_into().ok()?))),
        _ => None,
    }
}

impl Metadata {
    pub(super) fn read(
        cursor: &mut Cursor<'_>,
        file: &Arc<MappedFile>,
        count: usize,
    ) -> Result<Self, ModelLoadError> {
        let mut values = HashMap::new();
        for _ in 0..count {
            let key = cursor.name("a metadata key")?;
            let what = format!("the value of `{key}`");
            let value = value(cursor, &what)?;
            if values.insert(key.to_owned(), value).is_some() {
                return Err(damaged(cursor.path, &format!("key `{key}`"), "this key is there a second time"));
            }
        }
        Ok(Self { file: Arc::clone(file), values })
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        self.file.path()
    }

    /// An error about a key.
    pub(crate) fn problem(
        &self,
        kind: LoadErrorKind,
        key: &str,
        what: impl Into<String>,
        help: impl Into<String>,
    ) -> ModelLoadError {
        ModelLoadError::new(kind, at(self.path(), &format!("key `{key}`")), what, help)
    }

    /// The error for a required key that is missing.
    pub(crate) fn missing(&self, key: &str) -> ModelLoadError {
        let help =
            "the file was written by another kind of converter, or cut; convert or download the model again";
        self.problem(LoadErrorKind::Corrupt, key, "this key is missing, and the model needs it", help)
    }

    /// The error for a value of another type or out of range.
    pub(crate) fn wrong(&self, key: &str, expected: &str) -> ModelLoadError {
        let found = match self.values.get(key) {
            None => "missing".to_owned(),
            Some(Value::Integer(value)) => value.to_string(),
            Some(Value::Number(value)) => value.to_string(),
            Some(Value::Flag(value)) => value.to_string(),
            Some(Value::Text(range)) => {
                let text = String::from_utf8_lossy(self.slice(range)).into_owned();
                let shown: String = text.chars().take(40).collect();
                format!("`{}{}`", shown.escape_debug(), if shown.len() < text.len() { "..." } else { "" })
            }
            Some(Value::List(_, count, _)) => format!("a list of {count}"),
        };
        let help = "convert or download the model again";
        self.problem(LoadErrorKind::Corrupt, key, format!("this should be {expected}, but is {found}"), help)
    }

    fn slice(&self, range: &Range<usize>) -> &[u8] {
        self.file.bytes().get(range.clone()).unwrap_or_default()
    }

    fn ask<'a, T>(
        &'a self,
        key: &str,
        expected: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, ModelLoadError> {
        self.values.get(key).map(|value| read(value).ok_or_else(|| self.wrong(key, expected))).transpose()
    }

    /// A whole number of at least 0.
    pub(crate) fn integer(&self, key: &str) -> Result<Option<u64>, ModelLoadError> {
        self.ask(key, "a whole number of at least 0", |value| match value {
            Value::Integer(value) => u64::try_from(*value).ok(),
            _ => None,
        })
    }

    /// A finite number.
    pub(crate) fn number(&self, key: &str) -> Result<Option<f64>, ModelLoadError> {
        self.ask(key, "a finite number", |value| match value {
            Value::Number(value) if value.is_finite() => Some(*value),
            _ => None,
        })
    }

    /// A boolean.
    pub(crate) fn flag(&self, key: &str) -> Result<Option<bool>, ModelLoadError> {
        self.ask(key, "true or false", |value| match value {
            Value::Flag(value) => Some(*value),
            _ => None,
        })
    }

    /// A text.
    pub(crate) fn text(&self, key: &str) -> Result<Option<&str>, ModelLoadError> {
        self.ask(key, "a text in UTF-8", |value| match value {
            Value::Text(range) => std::str::from_utf8(self.slice(range)).ok(),
            _ => None,
        })
    }

    /// A list of texts.
    pub(crate) fn texts(&self, key: &str) -> Result<Option<Vec<&str>>, ModelLoadError> {
        self.ask(key, "a list of texts in UTF-8", |value| match value {
            Value::List(TEXT, count, range) => {
                let (mut rest, mut texts) = (self.slice(range), Vec::with_capacity(*count));
                for _ in 0..*count {
                    let (length, after) = rest.split_first_chunk()?;
                    let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
                    let (text, after) = after.split_at_checked(length)?;
                    texts.push(std::str::from_utf8(text).ok()?);
                    rest = after;
                }
                Some(texts)
            }
            _ => None,
        })
    }

    /// A list of numbers of any type.
    pub(crate) fn numbers(&self, key: &str) -> Result<Option<Vec<f32>>, ModelLoadError> {
        self.ask(key, "a list of numbers", |value| match value {
            Value::List(kind, _, range) => {
                let bytes = self.slice(range).chunks_exact(size(*kind)?);
                bytes
                    .map(|bytes| match number(*kind, bytes)? {
                        Value::Integer(value) => Some(value as f32),
                        Value::Number(value) => Some(value as f32),
                        _ => None,
                    })
                    .collect()
            }
            _ => None,
        })
    }
}

/// Reads a value of any type. Lists are skipped, not read.
fn value(cursor: &mut Cursor<'_>, what: &str) -> Result<Value, ModelLoadError> {
    let place = format!("byte {}", cursor.position());
    let unknown =
        |path: &Path, kind: u32| damaged(path, &place, format!("{what} has the type {kind}, which is none"));
    match cursor.u32(what)? {
        TEXT => Ok(Value::Text(cursor.text_range(what)?)),
        LIST => {
            let kind = cursor.u32(what)?;
            let start = cursor.position() + size_of::<u64>();
            if kind == TEXT {
                let count = cursor.count(size_of::<u64>(), what)?;
                for _ in 0..count {
                    cursor.text_range(what)?;
                }
                return Ok(Value::List(kind, count, start..cursor.position()));
            }
            let Some(size) = size(kind) else { return Err(unknown(cursor.path, kind)) };
            let count = cursor.count(size, what)?;
            Ok(Value::List(kind, count, cursor.range(count * size, what)?))
        }
        kind => {
            let Some(size) = size(kind) else { return Err(unknown(cursor.path, kind)) };
            let bytes = cursor.bytes(size, what)?;
            number(kind, bytes).ok_or_else(|| {
                damaged(cursor.path, &place, format!("{what} is not a value of its type {kind}"))
            })
        }
    }
}
