//! Batched operands: several matrices that are multiplied by the same other operand, which is packed once for all of them.
//!
//! Each operand begins with a panel of its own, so that a tile never spans two. *Padded lanes* count the lanes of all operands,
//! including those that fill an operand's last panel.

use std::ops::Range;

use super::operand::Operand;

/// An operand and its lanes: rows of the result for A, columns for B.
#[derive(Clone, Copy, Debug)]
pub struct BatchedOperand<'a> {
    /// The matrix.
    pub operand: Operand<'a>,
    /// Rows or columns of the result that it makes.
    pub lanes: usize,
}

/// Batched operands in panels of `unit` lanes.
#[derive(Clone, Copy)]
pub(super) struct Batch<'a> {
    pub(super) all: &'a [BatchedOperand<'a>],
    pub(super) unit: usize,
}

/// Some lanes of one operand of a batch.
pub(super) struct BatchSlice<'a> {
    /// Number of the operand.
    pub(super) index: usize,
    pub(super) operand: &'a Operand<'a>,
    /// Lanes of the operand.
    pub(super) lanes: Range<usize>,
    /// Where they begin among the padded lanes.
    pub(super) start: usize,
}

impl<'a> Batch<'a> {
    /// Number of padded lanes.
    pub(super) fn padded_lanes(self) -> usize {
        self.all.iter().map(|operand| operand.lanes.next_multiple_of(self.unit)).sum()
    }

    /// The lanes of operands that lie in a range of padded lanes, without the padding.
    pub(super) fn slices(self, range: Range<usize>) -> impl Iterator<Item = BatchSlice<'a>> {
        let mut end = 0;
        self.all.iter().enumerate().filter_map(move |(index, BatchedOperand { operand, lanes })| {
            let first = end;
            end += lanes.next_multiple_of(self.unit);
            let from = range.start.max(first) - first;
            let to = range.end.saturating_sub(first).min(*lanes);
            let slice = BatchSlice { index, operand, lanes: from..to, start: first + from };
            (from < to).then_some(slice)
        })
    }
}
