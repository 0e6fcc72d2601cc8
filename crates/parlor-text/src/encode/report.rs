//! The report of encoding rows: how many became examples, which were left out and why, and when that is an error.

use serde::{Deserialize, Serialize};

use super::findings::Findings;
use crate::datasets::{KEPT_PROBLEMS, RowProblem, RowSource, SourcedRow, shown};

/// What became of the rows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EncodeReport {
    /// Examples.
    pub examples: usize,
    /// Tokens of all examples.
    pub total_tokens: usize,
    /// Tokens that are trained.
    pub trained_tokens: usize,
    /// Rows cut at `max_length`.
    pub truncated: usize,
    /// Rows left out because they are longer than `max_length`.
    pub dropped: usize,
    /// Rows left out because no token of them would be trained.
    pub untrained: usize,
    /// The first of those.
    #[serde(default)]
    pub untrained_rows: Vec<RowProblem>,
    /// Rows left out because they cannot be used (`data.on_bad_row: skip`).
    #[serde(default)]
    pub bad: usize,
    /// The first of those.
    #[serde(default)]
    pub bad_rows: Vec<RowProblem>,
    /// What is suspicious about the others.
    #[serde(default)]
    pub findings: Findings,
}

impl EncodeReport {
    /// What the user should know: rows that were left out, and suspicious ones.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = self.findings.sentences();
        if self.bad > 0 {
            let list = shown(&self.bad_rows, self.bad);
            warnings.push(format!("{} rows are left out because they cannot be used:{list}", self.bad));
        }
        if self.untrained > 0 {
            let (count, list) = (self.untrained, shown(&self.untrained_rows, self.untrained));
            warnings
                .push(format!("{count} rows are left out because no token of them would be trained:{list}"));
        }
        warnings
    }

    pub(super) fn untrained(&mut self, source: &RowSource, why: &str) {
        self.untrained += 1;
        if self.untrained_rows.len() < KEPT_PROBLEMS {
            self.untrained_rows.push(source.problem(&why));
        }
    }
}

/// Why rows could not become examples.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// A row that ends the run.
    #[error("{source_row}: {why}")]
    Row {
        /// Where it is.
        source_row: RowSource,
        /// Why.
        why: String,
    },
    /// Rows that cannot be used (`data.on_bad_row: error`).
    #[error(
        "{}{}\n  correct them, or leave them out by `data.on_bad_row: skip`",
        if *.count == 1 { "1 row cannot be used:".to_owned() } else { format!("{} rows cannot be used:", .count) },
        shown(.problems, *.count)
    )]
    Rows {
        /// How many.
        count: usize,
        /// The first of them.
        problems: Vec<RowProblem>,
    },
    /// Rows that are too long (`data.on_long_row: error`).
    #[error(
        "{count} rows are longer than {max_length} tokens (`max_length`), the first is {first} with {tokens}: raise \
         `max_length`, or cut or leave out such rows by `data.on_long_row: truncate` or `drop`"
    )]
    Long {
        /// How many.
        count: usize,
        /// The first of them.
        first: RowSource,
        /// Its tokens.
        tokens: usize,
        /// The limit.
        max_length: usize,
    },
    /// No token of the rows would be trained.
    #[error(
        "no token of the {rows} rows would be trained ({untrained} rows without an assistant's answer{}): check that the \
         rows hold answers, raise `data.max_length`, or train on all tokens with `training.sft.train_on: all`",
        cut_at(*.max_length, *.truncated, *.dropped)
    )]
    NothingTrained {
        /// Number of rows.
        rows: usize,
        /// Rows without a trained token.
        untrained: usize,
        /// Rows that were cut.
        truncated: usize,
        /// Rows that were left out for their length.
        dropped: usize,
        /// Where they were cut.
        max_length: usize,
    },
    /// No row of preference data can be used.
    #[error(
        "none of the {rows} rows can be used ({untrained} have no room for an answer beside their prompt{}, {dropped} are \
         longer, {bad} are bad): raise `training.dpo.max_length` and `data.max_length`",
        within(*.max_length)
    )]
    NothingPreferred {
        /// Number of rows.
        rows: usize,
        /// Examples of which nothing is left within the limit.
        untrained: usize,
        /// Examples left out for their length.
        dropped: usize,
        /// Rows that are bad.
        bad: usize,
        /// The limit.
        max_length: usize,
    },
}

/// Why a row makes no example.
pub(super) enum Unusable {
    /// Its kind does not suit the training type, or the model has no template. Other rows have the same
    /// problem, so this ends the run.
    Unfit(EncodeError),
    /// The row itself is bad.
    Bad(String),
}

pub(super) fn bad(error: &dyn std::fmt::Display) -> Unusable {
    Unusable::Bad(error.to_string())
}

pub(super) fn row_error(sourced: &SourcedRow, error: &dyn std::fmt::Display) -> EncodeError {
    EncodeError::Row { source_row: sourced.source.clone(), why: error.to_string() }
}

/// The rows that a limit affected; empty without a limit.
fn cut_at(max_length: usize, truncated: usize, dropped: usize) -> String {
    match max_length {
        usize::MAX => String::new(),
        limit => format!(", {truncated} cut at `data.max_length` = {limit}, {dropped} left out there"),
    }
}

fn within(max_length: usize) -> String {
    match max_length {
        usize::MAX => String::new(),
        limit => format!(" within {limit} tokens"),
    }
}
