//! Sums that are rounded to bf16 on their way into a result: gradients of weights that are bf16 themselves.

use std::ops::Range;

use half::bf16;

use crate::Write;
use crate::cpu::simd::{Element, dispatch};
use crate::parallel::SharedMut;

/// Where they go, and what becomes of what is there.
#[derive(Clone, Copy)]
pub(super) struct Narrow {
    pub(super) to: SharedMut<bf16>,
    pub(super) write: Write,
}

impl Narrow {
    /// Rounds sums, whose rows are `width` apart, into these rows and columns of the result, whose rows are `stride` apart.
    ///
    /// # Safety
    /// Nobody else looks at these elements of the result.
    pub(super) unsafe fn write(
        self,
        (sums, width): (&[f32], usize),
        (rows, columns): (&Range<usize>, &Range<usize>),
        stride: usize,
    ) {
        for (row, sums) in rows.clone().zip(sums.chunks(width)) {
            let sums = &sums[..columns.len()];
            // SAFETY: the contract of the caller.
            let to = unsafe { self.to.slice(row * stride + columns.start, columns.len()) };
            dispatch(
                #[inline(always)]
                || match self.write {
                    Write::Replace => to.iter_mut().zip(sums).for_each(|(to, sum)| *to = bf16::narrow(*sum)),
                    Write::Accumulate => {
                        to.iter_mut().zip(sums).for_each(|(to, sum)| *to = bf16::narrow(to.widen() + sum));
                    }
                },
            );
        }
    }
}
