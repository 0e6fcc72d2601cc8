//! An operand of gemm: a matrix of any dtype, read by rows and packed into panels.

use std::ops::Range;

use super::microkernel::{Microkernel, PACK_LANES, PanelLayout, Rounding, StridedRows};
use super::widen_prepacked::widen_panels;
use crate::memory::View;
use crate::memory::scratch::{self, WIDENED_ROWS};

/// Which dimension of the product is contiguous in a stored matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StorageOrder {
    /// K: a stored row is a row of A or a column of B.
    KContiguous,
    /// M or N: a stored row is one value of K, for all rows of A or columns of B.
    MnContiguous,
}

/// A stored matrix, row-major, `width` elements a row.
#[derive(Clone, Copy, Debug)]
pub struct Operand<'a> {
    /// The elements.
    pub view: View<'a>,
    /// Elements from one stored row to the next.
    pub width: usize,
    /// What its rows run order.
    pub order: StorageOrder,
}

impl Operand<'_> {
    /// Whether `lanes x depth` lies within the view.
    pub(crate) fn holds(&self, lanes: usize, depth: usize) -> bool {
        let (rows, columns) = match self.order {
            StorageOrder::KContiguous => (lanes, depth),
            StorageOrder::MnContiguous => (depth, lanes),
        };
        rows == 0
            || columns == 0
            || (columns <= self.width && (rows - 1) * self.width + columns <= self.view.len())
    }

    /// Packs `lanes x depth` into panels, one after the other in `out`; an MN-contiguous operand from step `first_step` on, a
    /// K-contiguous one from the first.
    ///
    /// # Safety
    /// The kernel's instruction set is there.
    pub(crate) unsafe fn pack<K: Microkernel>(
        &self,
        lanes: Range<usize>,
        depth: Range<usize>,
        first_step: usize,
        layout: PanelLayout,
        rounding: Rounding,
        out: &mut [K::Element],
    ) {
        assert!(
            first_step + depth.len().div_ceil(K::K_PER_LANE) <= layout.steps
                && out.len() >= lanes.len().div_ceil(layout.used) * layout.len(),
            "{layout:?} for {lanes:?}, {depth:?}"
        );
        if let View::Packed(packed) = self.view
            && let Some(source) = packed.unpacked_source()
        {
            let stored = Operand { view: View::from(source), ..*self };
            // SAFETY: the contract of the caller.
            return unsafe { stored.pack::<K>(lanes, depth, first_step, layout, rounding, out) };
        }
        let (rows, columns, batch) = match self.order {
            // Whole panels at a time, so that each call begins with a panel's first lane.
            StorageOrder::KContiguous => (lanes, depth, layout.used),
            StorageOrder::MnContiguous => (depth, lanes, PACK_LANES),
        };
        if let (View::Bf16(values), true) = (self.view, K::PACKS_BF16) {
            let values = &values[rows.start * self.width + columns.start..];
            let rows = StridedRows { values, stride: self.width, count: rows.len(), width: columns.len() };
            // SAFETY: the contract of the caller.
            return unsafe {
                match self.order {
                    StorageOrder::KContiguous => K::pack_k_contiguous_bf16(rows, layout, out),
                    StorageOrder::MnContiguous => K::pack_mn_contiguous_bf16(rows, first_step, layout, out),
                }
            };
        }
        if let (View::Packed(view), StorageOrder::KContiguous, 1) = (self.view, self.order, K::K_PER_LANE)
            && let Ok(out) = bytemuck::try_cast_slice_mut(&mut *out)
            && widen_panels(view, (&rows, &columns), layout, out)
        {
            return;
        }
        let batch = if matches!(self.view, View::F32(_)) { rows.len() } else { batch };
        for first in rows.clone().step_by(batch.max(1)) {
            let own = first..(first + batch).min(rows.end);
            let done = first - rows.start;
            self.with_rows(own, &columns, |rows| {
                // SAFETY: the contract of the caller.
                unsafe {
                    match self.order {
                        StorageOrder::KContiguous => {
                            let out = &mut out[done / layout.used * layout.len()..];
                            K::pack_k_contiguous(rows, layout, rounding, out);
                        }
                        StorageOrder::MnContiguous => K::pack_mn_contiguous(
                            rows,
                            first_step + done / K::K_PER_LANE,
                            layout,
                            rounding,
                            out,
                        ),
                    }
                }
            });
        }
    }

    /// Calls `use_them` with the `columns` of stored rows, in f32.
    pub(crate) fn with_rows(
        &self,
        rows: Range<usize>,
        columns: &Range<usize>,
        use_them: impl FnOnce(StridedRows<'_>),
    ) {
        let (count, width) = (rows.len(), columns.len());
        if let View::F32(values) = self.view {
            let values = &values[rows.start * self.width + columns.start..];
            return use_them(StridedRows { values, stride: self.width, count, width });
        }
        scratch::with(&WIDENED_ROWS, count * width, |buffer: &mut [f32]| {
            for (out, row) in buffer.chunks_exact_mut(width.max(1)).zip(rows) {
                let at = row * self.width;
                self.view.widen_range(at + columns.start..at + columns.end, out);
            }
            use_them(StridedRows { values: buffer, stride: width, count, width });
        });
    }
}
