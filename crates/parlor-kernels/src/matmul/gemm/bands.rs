//! Operands side by side: several matrices that meet the same other operand, which is packed once for all of them.
//!
//! Each begins with a panel of its own, so that a tile never holds parts of two. Lanes are counted over all of them together,
//! those that fill a last panel included: *places*.

use std::ops::Range;

use super::Operand;

/// An operand of a product and its lanes: rows of the result on the left, columns on the right.
#[derive(Clone, Copy, Debug)]
pub struct Band<'a> {
    /// The matrix.
    pub operand: Operand<'a>,
    /// Rows or columns of the result that it makes.
    pub lanes: usize,
}

/// Bands, in panels of `unit` lanes.
#[derive(Clone, Copy)]
pub(super) struct Bands<'a> {
    pub(super) all: &'a [Band<'a>],
    pub(super) unit: usize,
}

/// A part of one band.
pub(super) struct Piece<'a> {
    /// Number of the band.
    pub(super) band: usize,
    pub(super) operand: &'a Operand<'a>,
    /// Lanes of the band.
    pub(super) lanes: Range<usize>,
    /// Where they begin among all places.
    pub(super) place: usize,
}

impl<'a> Bands<'a> {
    /// Places of all bands.
    pub(super) fn places(self) -> usize {
        self.all.iter().map(|band| band.lanes.next_multiple_of(self.unit)).sum()
    }

    /// The parts of bands that lie in a range of places; places that only fill a panel are left out.
    pub(super) fn pieces(self, range: Range<usize>) -> impl Iterator<Item = Piece<'a>> {
        let mut end = 0;
        self.all.iter().enumerate().filter_map(move |(index, band)| {
            let start = end;
            end += band.lanes.next_multiple_of(self.unit);
            let from = range.start.max(start) - start;
            let to = range.end.saturating_sub(start).min(band.lanes);
            let piece = Piece { band: index, operand: &band.operand, lanes: from..to, place: start + from };
            (from < to).then_some(piece)
        })
    }
}
