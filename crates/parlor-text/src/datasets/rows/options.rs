//! Options for reading the rows of a path.

use serde_json::{Map, Value};

use super::column_names::{DOCUMENTS, HISTORY, KNOWN_COLUMNS, SYSTEM, TEMPLATE_KWARGS, TOOLS};
use super::columns::{Columns, Tags};
use super::row::RowKind;
use crate::json_value::is_nothing;

/// How rows are read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// Their kind. None: decided by their columns.
    pub kind: Option<RowKind>,
    /// Names of their columns.
    pub columns: Columns,
    /// Names within their messages.
    pub tags: Tags,
    /// At most so many usable rows are read.
    pub max_samples: Option<usize>,
}

impl ReadOptions {
    /// The columns that rows may use.
    pub(crate) fn wanted(&self) -> Vec<&str> {
        let named: Vec<&str> = self.columns.named().map(|(_, column)| column).collect();
        if named.is_empty() { KNOWN_COLUMNS.to_vec() } else { named }
    }

    /// The canonical name of a column.
    pub(crate) fn canonical<'a>(&'a self, column: &'a str) -> &'a str {
        self.columns.named().find(|(_, theirs)| *theirs == column).map_or(column, |(name, _)| name)
    }

    /// A row with its columns under their canonical names, and the columns that `columns` does not name and
    /// that are not empty.
    pub(crate) fn renamed(
        &self,
        mut row: Map<String, Value>,
    ) -> Result<(Map<String, Value>, Vec<String>), String> {
        if self.columns.named().next().is_none() {
            return Ok((row, Vec::new()));
        }
        let mut named = Map::new();
        for (name, column) in self.columns.named() {
            match row.get_mut(column) {
                // One column may be used twice.
                Some(value) => _ = named.insert(name.to_owned(), value.clone()),
                None if OPTIONAL.contains(&name) => {}
                None => {
                    let keys: Vec<&str> = row.keys().map(String::as_str).collect();
                    let keys = keys.join(", ");
                    return Err(format!(
                        "there is no `{column}`, which `columns.{name}` names; the row has [{keys}]"
                    ));
                }
            }
        }
        let is_named = |name: &String| self.columns.named().any(|(_, column)| column == name);
        let others = row.into_iter().filter(|(name, value)| !is_named(name) && !is_nothing(value));
        Ok((named, others.map(|(name, _)| name).collect()))
    }
}

/// Columns that rows may lack.
const OPTIONAL: &[&str] = &[SYSTEM, HISTORY, TOOLS, DOCUMENTS, TEMPLATE_KWARGS, "input"];
