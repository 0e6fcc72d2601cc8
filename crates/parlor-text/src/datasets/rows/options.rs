//! How the rows of a path are to be understood, beyond what their files say.

use serde_json::{Map, Value};

use super::RowKind;
use super::row::COLUMNS;
use super::template_inputs::{DOCUMENTS, KWARGS, TOOLS};
use super::turns::{HISTORY, SYSTEM};
use crate::chat::is_nothing;
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

    /// A row with its columns under their canonical names, and the names of those that hold something and are not named.
    pub(super) fn renamed(
        &self,
        mut row: Map<String, Value>,
    ) -> Result<(Map<String, Value>, Vec<String>), String> {
        if self.columns.named().next().is_none() {
            return Ok((row, Vec::new()));
        }
        let mut named = Map::new();
        for (name, column) in self.columns.named() {
            match row.get_mut(column) {
                // One column may serve twice.
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
const OPTIONAL: &[&str] = &[SYSTEM, HISTORY, TOOLS, DOCUMENTS, KWARGS, "input"];
