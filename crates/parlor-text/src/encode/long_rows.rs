//! Rows that are longer than the limit in tokens: counted, and cut, left out or refused as `data.on_long_row`
//! says.

use super::report::EncodeError;
use crate::config::OnLongRow;
use crate::datasets::RowSource;

/// The policy, and the long rows so far.
pub(super) struct LongRows {
    policy: OnLongRow,
    max_length: usize,
    count: usize,
    first: Option<(RowSource, usize)>,
}

impl LongRows {
    pub(super) fn new(policy: OnLongRow, max_length: usize) -> Self {
        Self { policy, max_length, count: 0, first: None }
    }

    /// Whether a row of `tokens` tokens is used, whole or cut.
    pub(super) fn accepts(&mut self, source: &RowSource, tokens: usize) -> bool {
        if tokens <= self.max_length {
            return true;
        }
        self.count += 1;
        self.first.get_or_insert_with(|| (source.clone(), tokens));
        self.policy == OnLongRow::Truncate
    }

    /// Number of rows that were left out.
    pub(super) fn dropped(&self) -> usize {
        if self.policy == OnLongRow::Drop { self.count } else { 0 }
    }

    /// An error when there are long rows and the policy refuses them. Called after all rows.
    pub(super) fn check(&self) -> Result<(), EncodeError> {
        match &self.first {
            Some((first, tokens)) if self.policy == OnLongRow::Error => Err(EncodeError::Long {
                count: self.count,
                first: first.clone(),
                tokens: *tokens,
                max_length: self.max_length,
            }),
            _ => Ok(()),
        }
    }
}
