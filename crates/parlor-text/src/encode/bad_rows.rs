//! Rows that cannot be rendered or tokenised: counted, the first of them listed, and refused or left out as
//! `data.on_bad_row` says.

use super::report::EncodeError;
use crate::config::OnBadRow;
use crate::datasets::{KEPT_PROBLEMS, RowProblem, RowSource};

/// The policy, and the bad rows so far.
pub(super) struct BadRows {
    policy: OnBadRow,
    count: usize,
    first: Vec<RowProblem>,
}

impl BadRows {
    pub(super) fn new(policy: OnBadRow) -> Self {
        Self { policy, count: 0, first: Vec::new() }
    }

    pub(super) fn add(&mut self, source: &RowSource, why: &dyn std::fmt::Display) {
        self.count += 1;
        if self.first.len() < KEPT_PROBLEMS {
            self.first.push(source.problem(why));
        }
    }

    /// An error when there are bad rows and the policy refuses them.
    pub(super) fn check(&self) -> Result<(), EncodeError> {
        if self.policy == OnBadRow::Error && self.count > 0 {
            return Err(self.error());
        }
        Ok(())
    }

    /// Their number, and the first of them.
    pub(super) fn into_parts(self) -> (usize, Vec<RowProblem>) {
        (self.count, self.first)
    }

    pub(super) fn first(&self) -> &[RowProblem] {
        &self.first
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    pub(super) fn error(&self) -> EncodeError {
        EncodeError::Rows { count: self.count, problems: self.first.clone() }
    }
}
