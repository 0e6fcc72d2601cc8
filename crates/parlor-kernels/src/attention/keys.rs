//! The keys that a block of queries sees, in panels, and their packing.

use std::ops::Range;

use super::{Geometry, KeyValues, Segment, Source};
use crate::View;
use crate::matmul::gemm::kernel::{Kernel, Panels, Rows};
use crate::matmul::gemm::{Along, Operand, Path};

/// Panels that are packed and met at a time.
pub(super) const PANELS: usize = 4;

/// Keys of a panel: consecutive rows of one span, at consecutive positions.
#[derive(Clone, Copy)]
pub(super) struct Panel<'a> {
    keys: View<'a>,
    values: View<'a>,
    /// First row in the views: for keys of the batch, its row there.
    pub(super) row: usize,
    pub(super) len: usize,
    pub(super) position: usize,
}

/// Everything that queries at `positions` see of a segment's spans, in panels of `width` keys.
pub(super) fn panels<'a>(
    geometry: &Geometry,
    kv: KeyValues<'a>,
    segment: &Segment<'a>,
    positions: &Range<usize>,
    width: usize,
) -> Vec<Panel<'a>> {
    let key_width = geometry.key_width().max(1);
    let oldest = geometry.oldest(positions.start);
    let mut panels = Vec::new();
    for span in &segment.spans {
        let (keys, values, first, tokens) = match &span.source {
            Source::Rows(rows) => (View::F32(kv.keys), View::F32(kv.values), rows.start, rows.len()),
            Source::Cache { keys, values } => (*keys, *values, 0, keys.len() / key_width),
        };
        let from = oldest.saturating_sub(span.position).min(tokens);
        let to = positions.end.saturating_sub(span.position).min(tokens);
        for start in (from..to).step_by(width) {
            let (len, row) = (width.min(to - start), first + start);
            panels.push(Panel { keys, values, row, len, position: span.position + start });
        }
    }
    panels
}

impl<'a> Panel<'a> {
    /// Keys or values as an operand, and its rows and columns that are meant.
    fn operand(&self, of: Of, sizes: Sizes, along: Along) -> (Operand<'a>, Range<usize>, Range<usize>) {
        let view = if of == Of::Keys { self.keys } else { self.values };
        let operand = Operand { view, width: sizes.key_width, along };
        (operand, self.row..self.row + self.len, sizes.column..sizes.column + sizes.dim)
    }

    /// Calls `use_them` with the head's features of its keys or values, in f32.
    pub(super) fn with_rows(&self, of: Of, sizes: Sizes, use_them: impl FnOnce(Rows<'_>)) {
        let (operand, rows, columns) = self.operand(of, sizes, Along::Depth);
        operand.with_rows(rows, &columns, use_them);
    }

    /// Calls `use_them` with the same as they are, where they are plain numbers, and from one to the next.
    pub(super) fn with_plain(&self, of: Of, sizes: Sizes, use_them: impl FnOnce(View<'_>, usize)) {
        let (operand, rows, columns) = self.operand(of, sizes, Along::Depth);
        if let View::Block(_) | View::Packed(_) = operand.view {
            return operand.with_rows(rows, &columns, |rows| use_them(View::F32(rows.values), rows.stride));
        }
        let end = (rows.end - 1) * operand.width + columns.end;
        use_them(operand.view.slice(rows.start * operand.width + columns.start..end), operand.width);
    }

    /// Which of its keys the query at `position` sees.
    pub(super) fn seen(&self, geometry: &Geometry, position: usize) -> Range<usize> {
        let end = (position + 1).saturating_sub(self.position).min(self.len);
        geometry.oldest(position).saturating_sub(self.position).min(end)..end
    }
}

/// Whether keys or values are meant.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    Keys,
    Values,
}

/// Sizes that packing a block of panels needs.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    pub(super) dim: usize,
    pub(super) key_width: usize,
    /// First column of the head.
    pub(super) column: usize,
}

impl Sizes {
    pub(super) fn new(geometry: &Geometry, kv_head: usize) -> Self {
        let dim = geometry.head_dim;
        Self { dim, key_width: geometry.key_width(), column: kv_head * dim }
    }

    /// One panel with keys as its lanes.
    pub(super) fn across<K: Kernel>(self) -> Panels {
        Panels { used: K::COLUMNS, stride: K::COLUMNS, steps: self.dim.div_ceil(K::GROUP) }
    }

    /// Panels with features as their lanes, keys as their steps.
    pub(super) fn along<K: Kernel>(self) -> Panels {
        Panels { used: K::COLUMNS, stride: K::COLUMNS, steps: PANELS * K::COLUMNS / K::GROUP }
    }

    /// Elements of a block of panels with keys as lanes.
    pub(super) fn across_len<K: Kernel>(self) -> usize {
        PANELS * self.across::<K>().len()
    }

    /// Elements of a block of panels with features as lanes.
    pub(super) fn along_len<K: Kernel>(self) -> usize {
        self.dim.div_ceil(K::COLUMNS) * self.along::<K>().len()
    }
}

/// Packs keys or values as the lanes of panels: for products over features.
///
/// # Safety
/// The kernel's instruction set is there.
pub(super) unsafe fn pack_across<K: Kernel>(
    path: Path,
    sizes: Sizes,
    of: Of,
    panels: &[Panel<'_>],
    out: &mut [K::Element],
) {
    let layout = sizes.across::<K>();
    for (panel, out) in panels.iter().zip(out.chunks_exact_mut(layout.len())) {
        let (operand, rows, columns) = panel.operand(of, sizes, Along::Depth);
        // SAFETY: the contract of the caller.
        unsafe { operand.pack::<K>(rows, columns, 0, layout, path.rounding, out) };
    }
}

/// Packs keys or values as the steps of panels: for products over keys. Steps without a key are zero.
///
/// # Safety
/// The kernel's instruction set is there.
pub(super) unsafe fn pack_along<K: Kernel>(
    path: Path,
    sizes: Sizes,
    of: Of,
    panels: &[Panel<'_>],
    out: &mut [K::Element],
) {
    let layout = sizes.along::<K>();
    if panels.iter().any(|panel| panel.len < K::COLUMNS) {
        out.fill(bytemuck::Zeroable::zeroed());
    }
    for (index, panel) in panels.iter().enumerate() {
        let (operand, rows, columns) = panel.operand(of, sizes, Along::Lanes);
        let first = index * K::COLUMNS / K::GROUP;
        // SAFETY: the contract of the caller.
        unsafe { operand.pack::<K>(columns, rows, first, layout, path.rounding, out) };
    }
}
