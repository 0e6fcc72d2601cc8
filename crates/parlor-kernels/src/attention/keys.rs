//! The keys that a block of queries sees, in panels, and their packing.

use std::ops::Range;

use super::problem::{Geometry, KeySource, KeyValues, Segment};
use crate::matmul::gemm::microkernel::{Microkernel, PanelLayout, Rounding, StridedRows};
use crate::matmul::gemm::{Operand, StorageOrder};
use crate::memory::View;

/// Panels that are packed and multiplied at a time.
pub(super) const KEY_PANELS: usize = 4;

/// Keys of a panel: consecutive rows of one span, at consecutive positions.
#[derive(Clone, Copy)]
pub(super) struct KeyPanel<'a> {
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
) -> Vec<KeyPanel<'a>> {
    let key_width = geometry.key_width().max(1);
    let oldest = geometry.oldest(positions.start);
    let mut panels = Vec::new();
    for span in &segment.spans {
        let (keys, values, first, tokens) = match &span.source {
            KeySource::Rows(rows) => (View::F32(kv.keys), View::F32(kv.values), rows.start, rows.len()),
            KeySource::Cache { keys, values } => (*keys, *values, 0, keys.len() / key_width),
        };
        let from = oldest.saturating_sub(span.position).min(tokens);
        let to = positions.end.saturating_sub(span.position).min(tokens);
        for start in (from..to).step_by(width) {
            let (len, row) = (width.min(to - start), first + start);
            panels.push(KeyPanel { keys, values, row, len, position: span.position + start });
        }
    }
    panels
}

impl<'a> KeyPanel<'a> {
    /// Keys or values as an operand, and the rows and columns of this panel and head.
    fn operand(
        &self,
        of: KeysOrValues,
        sizes: HeadLayout,
        order: StorageOrder,
    ) -> (Operand<'a>, Range<usize>, Range<usize>) {
        let view = if of == KeysOrValues::Keys { self.keys } else { self.values };
        let operand = Operand { view, width: sizes.key_width, order };
        (operand, self.row..self.row + self.len, sizes.column..sizes.column + sizes.dim)
    }

    /// Calls `use_them` with the head's features of its keys or values, in f32.
    pub(super) fn with_rows(
        &self,
        of: KeysOrValues,
        sizes: HeadLayout,
        use_them: impl FnOnce(StridedRows<'_>),
    ) {
        let (operand, rows, columns) = self.operand(of, sizes, StorageOrder::KContiguous);
        operand.with_rows(rows, &columns, use_them);
    }

    /// As [`Self::with_rows`], without widening where they are not quantized; `use_them` also gets their stride.
    pub(super) fn with_plain(
        &self,
        of: KeysOrValues,
        sizes: HeadLayout,
        use_them: impl FnOnce(View<'_>, usize),
    ) {
        let (operand, rows, columns) = self.operand(of, sizes, StorageOrder::KContiguous);
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

/// Keys or values.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum KeysOrValues {
    Keys,
    Values,
}

/// HeadLayout that packing a block of panels needs.
#[derive(Clone, Copy)]
pub(super) struct HeadLayout {
    pub(super) dim: usize,
    pub(super) key_width: usize,
    /// First column of the head.
    pub(super) column: usize,
}

impl HeadLayout {
    pub(super) fn new(geometry: &Geometry, kv_head: usize) -> Self {
        let dim = geometry.head_dim;
        Self { dim, key_width: geometry.key_width(), column: kv_head * dim }
    }

    /// A panel with keys as lanes, features as steps.
    pub(super) fn by_key<K: Microkernel>(self) -> PanelLayout {
        PanelLayout { used: K::NR, stride: K::NR, steps: self.dim.div_ceil(K::K_PER_LANE) }
    }

    /// A panel with features as lanes, keys as steps.
    pub(super) fn by_feature<K: Microkernel>(self) -> PanelLayout {
        PanelLayout { used: K::NR, stride: K::NR, steps: KEY_PANELS * K::NR / K::K_PER_LANE }
    }

    /// Elements of a block of panels with keys as lanes.
    pub(super) fn by_key_len<K: Microkernel>(self) -> usize {
        KEY_PANELS * self.by_key::<K>().len()
    }

    /// Elements of a block of panels with features as lanes.
    pub(super) fn by_feature_len<K: Microkernel>(self) -> usize {
        self.dim.div_ceil(K::NR) * self.by_feature::<K>().len()
    }
}

/// Packs keys or values as lanes: for products over features.
///
/// # Safety
/// The kernel's instruction set is there.
pub(super) unsafe fn pack_by_key<K: Microkernel>(
    rounding: Rounding,
    sizes: HeadLayout,
    of: KeysOrValues,
    panels: &[KeyPanel<'_>],
    out: &mut [K::Element],
) {
    let layout = sizes.by_key::<K>();
    for (panel, out) in panels.iter().zip(out.chunks_exact_mut(layout.len())) {
        let (operand, rows, columns) = panel.operand(of, sizes, StorageOrder::KContiguous);
        // SAFETY: the contract of the caller.
        unsafe { operand.pack::<K>(rows, columns, 0, layout, rounding, out) };
    }
}

/// Packs keys or values as steps: for products over keys. Steps without a key are zero.
///
/// # Safety
/// The kernel's instruction set is there.
pub(super) unsafe fn pack_by_feature<K: Microkernel>(
    rounding: Rounding,
    sizes: HeadLayout,
    of: KeysOrValues,
    panels: &[KeyPanel<'_>],
    out: &mut [K::Element],
) {
    let layout = sizes.by_feature::<K>();
    if panels.iter().any(|panel| panel.len < K::NR) {
        out.fill(bytemuck::Zeroable::zeroed());
    }
    for (index, panel) in panels.iter().enumerate() {
        let (operand, rows, columns) = panel.operand(of, sizes, StorageOrder::MnContiguous);
        let first = index * K::NR / K::K_PER_LANE;
        // SAFETY: the contract of the caller.
        unsafe { operand.pack::<K>(columns, rows, first, layout, rounding, out) };
    }
}
