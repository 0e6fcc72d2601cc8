//! How the rows of a path are to be understood, beyond what their files say.

use serde_json::{Map, Value};

use super::RowKind;
use super::row::COLUMNS;
use crate::dataset_config::{Columns, Tags};

/// How rows are read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// Their kind. None: what their columns say.
    pub kind: Option<RowKind>,
    /// Names of their columns.
    pub columns: Columns,
    /// Names within their messages.
    pub tags: Tags,
    /// At most so many usable rows are read.
    pub max_samples: Option<usize>,
}

impl ReadOptions {
    /// The columns that a row is made of.
    pub(super) fn wanted(&self) -> Vec<&str> {
        let named: Vec<&str> = self.columns.named().map(|(_, column)| column).collect();
        if named.is_empty() { COLUMNS.to_vec() } else { named }
    }

    /// What a column of a file is here.
    pub(super) fn canonical<'a>(&'a self, column: &'a str) -> &'a str {
        self.columns.named().find(|(_, theirs)| *theirs == column).map_or(column, |(name, _)| name)
    }

    /// A row with its columns under their canonical names.
    pub(super) fn renamed(&self, mut row: Map<String, Value>) -> Result<Map<String, Value>, String> {
        if self.columns.named().next().is_none() {
            return Ok(row);
        }
        let mut named = Map::new();
        for (name, column) in self.columns.named() {
            match row.get_mut(column) {
                // One column may serve twice.
                Some(value) => _ = named.insert(name.to_owned(), value.clone()),
                None if matches!(name, "system" | "tools" | "input") => {}
                None => {
                    let keys: Vec<&str> = row.keys().map(String::as_str).collect();
                    let keys = keys.join(", ");
                    return Err(format!(
                        "there is no `{column}`, which `columns.{name}` names; the row has [{keys}]"
                    ));
                }
            }
        }
        Ok(named)
    }
}
