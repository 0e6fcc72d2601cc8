//! A matrix on its way into a product: any dtype, read by rows, packed into panels.

use std::ops::Range;

use super::kernel::{BUNDLE, Kernel, Panels, Rounding, Rows};
use crate::View;
use crate::matmul::prepacked;
use crate::memory::scratch::{self, WIDENED_ROWS};

/// Which way a product runs through a stored matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Along {
    /// A stored row is a row of the left operand or a column of the right one: the sum runs along it.
    Depth,
    /// A stored row is one step of the sum.
    Lanes,
}

/// A stored matrix, row-major, `width` elements a row.
#[derive(Clone, Copy, Debug)]
pub struct Operand<'a> {
    /// The elements.
    pub view: View<'a>,
    /// Elements from one stored row to the next.
    pub width: usize,
    /// The direction of its rows.
    pub along: Along,
}

impl Operand<'_> {
    /// Whether `lanes x depth` lies within the view.
    pub(crate) fn holds(&self, lanes: usize, depth: usize) -> bool {
        let (rows, columns) = match self.along {
            Along::Depth => (lanes, depth),
            Along::Lanes => (depth, lanes),
        };
        rows == 0
            || columns == 0
            || (columns <= self.width && (rows - 1) * self.width + columns <= self.view.len())
    }

    /// Packs `lanes x depth` into the panels of `layout`, one after the other in `out`; rows that run along the
    /// lanes from step `first_step` on, others from the first.
    ///
    /// # Safety
    /// The kernel's instruction set is there.
    pub(crate) unsafe fn pack<K: Kernel>(
        &self,
        lanes: Range<usize>,
        depth: Range<usize>,
        first_step: usize,
        layout: Panels,
        rounding: Rounding,
        out: &mut [K::Element],
    ) {
        assert!(
            first_step + depth.len().div_ceil(K::GROUP) <= layout.steps
                && out.len() >= lanes.len().div_ceil(layout.used) * layout.len(),
            "{layout:?} for {lanes:?}, {depth:?}"
        );
        if let View::Packed(packed) = self.view
            && let Some(view) = packed.waiting()
        {
            let stored = Operand { view, ..*self };
            // SAFETY: the contract of the caller.
            return unsafe { stored.pack::<K>(lanes, depth, first_step, layout, rounding, out) };
        }
        let (rows, columns, batch) = match self.along {
            // Whole panels at a time, so that each call begins with a panel's first lane.
            Along::Depth => (lanes, depth, layout.used),
            Along::Lanes => (depth, lanes, BUNDLE),
        };
        if let (View::Bf16(values), true) = (self.view, K::TAKES_BF16) {
            let values = &values[rows.start * self.width + columns.start..];
            let rows = Rows { values, stride: self.width, count: rows.len(), width: columns.len() };
            // SAFETY: the contract of the caller.
            return unsafe {
                match self.along {
                    Along::Depth => K::pack_across_bf16(rows, layout, out),
                    Along::Lanes => K::pack_along_bf16(rows, first_step, layout, out),
                }
            };
        }
        if let (View::Packed(view), Along::Depth, 1) = (self.view, self.along, K::GROUP)
            && let Ok(out) = bytemuck::try_cast_slice_mut(&mut *out)
            && prepacked::widen_panels(view, (&rows, &columns), layout, out)
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
                    match self.along {
                        Along::Depth => {
                            let out = &mut out[done / layout.used * layout.len()..];
                            K::pack_across(rows, layout, rounding, out);
                        }
                        Along::Lanes => {
                            K::pack_along(rows, first_step + done / K::GROUP, layout, rounding, out)
                        }
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
        use_them: impl FnOnce(Rows<'_>),
    ) {
        let (count, width) = (rows.len(), columns.len());
        if let View::F32(values) = self.view {
            let values = &values[rows.start * self.width + columns.start..];
            return use_them(Rows { values, stride: self.width, count, width });
        }
        scratch::with(&WIDENED_ROWS, count * width, |buffer: &mut [f32]| {
            for (out, row) in buffer.chunks_exact_mut(width.max(1)).zip(rows) {
                let at = row * self.width;
                self.view.widen_range(at + columns.start..at + columns.end, out);
            }
            use_them(Rows { values: buffer, stride: width, count, width });
        });
    }
}
