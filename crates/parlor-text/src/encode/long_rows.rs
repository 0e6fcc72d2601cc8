//! Rows that are longer than the limit in tokens: cut, left out or refused, and counted. Which, the caller says.

use crate::config::OnLongRow;
use crate::datasets::RowSource;
use crate::encode_report::EncodeError;

/// The policy, and what it met.
pub(crate) struct LongRows {
    policy: OnLongRow,
    max_length: usize,
    count: usize,
    first: Option<(RowSource, usize)>,
}

impl LongRows {
    pub(crate) fn new(policy: OnLongRow, max_length: usize) -> Self {
        Self { policy, max_length, count: 0, first: None }
    }

    /// Whether a row of so many tokens is used, whole or cut.
    pub(crate) fn takes(&mut self, source: &RowSource, tokens: usize) -> bool {
        if tokens <= self.max_length {
            return true;
        }
        self.count += 1;
        self.first.get_or_insert_with(|| (source.clone(), tokens));
        self.policy == OnLongRow::Truncate
    }

    /// Rows that were left out.
    pub(crate) fn dropped(&self) -> usize {
        if self.policy == OnLongRow::Drop { self.count } else { 0 }
    }

    /// Refuses what was met, if that is the policy. All rows were looked at.
    pub(crate) fn check(&self) -> Result<(), EncodeError> {
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
