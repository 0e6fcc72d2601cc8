//! Storing f32 sums as bf16: gradients of bf16 weights.

use std::ops::Range;

use half::bf16;

use crate::cpu::simd::{Element, dispatch};
use crate::matmul::write::Write;
use crate::parallel::SharedMut;

/// The destination of the sums, and what becomes of its old content.
#[derive(Clone, Copy)]
pub(super) struct Bf16Store {
    pub(super) to: SharedMut<bf16>,
    pub(super) write: Write,
}

impl Bf16Store {
    /// Rounds sums, row stride `width`, into these rows and columns of the result, row stride `stride`.
    ///
    /// # Safety
    /// Nobody else accesses these elements of the result.
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
