//! Rows that cannot become examples, once they are rendered or tokenised: listed or left out, as `data.on_bad_row` says, and
//! counted. The first of them are kept by name.

use crate::config::OnBadRow;
use crate::datasets::{KEPT_PROBLEMS, RowProblem, RowSource};
use crate::encode_report::EncodeError;

/// The policy, and what it met.
pub(crate) struct BadRows {
    policy: OnBadRow,
    count: usize,
    first: Vec<RowProblem>,
}

impl BadRows {
    pub(crate) fn new(policy: OnBadRow) -> Self {
        Self { policy, count: 0, first: Vec::new() }
    }

    pub(crate) fn add(&mut self, source: &RowSource, why: &dyn std::fmt::Display) {
        self.count += 1;
        if self.first.len() < KEPT_PROBLEMS {
            self.first.push(source.problem(why));
        }
    }

    /// Refuses what was met, if that is the policy.
    pub(crate) fn check(&self) -> Result<(), EncodeError> {
        if self.policy == OnBadRow::Error && self.count > 0 {
            return Err(self.error());
        }
        Ok(())
    }

    /// How many there are, and the first of them.
    pub(crate) fn take(self) -> (usize, Vec<RowProblem>) {
        (self.count, self.first)
    }

    pub(crate) fn first(&self) -> &[RowProblem] {
        &self.first
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }

    pub(crate) fn error(&self) -> EncodeError {
        EncodeError::Rows { count: self.count, problems: self.first.clone() }
    }
}
