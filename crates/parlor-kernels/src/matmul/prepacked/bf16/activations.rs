//! Activation rows rounded to bf16, in the form that a kernel takes.

use super::tile::Bf16Kernel;
use crate::memory::scratch::{self, PACKED_A};
use crate::parallel::SharedMut;
use crate::parallel::threads::parallel_for_ranges;

/// Rounded rows, `stride` words apart: an odd number of cache lines, so that rows do not evict each other.
pub(super) struct Bf16Activations<'a> {
    pub(super) words: &'a [u32],
    pub(super) stride: usize,
    pub(super) rows: usize,
}

impl Bf16Activations<'_> {
    /// Calls `use_them` with `x`, `[rows, columns]`, rounded by `kernel`, in memory that is reused.
    pub(super) fn with<R>(
        kernel: Bf16Kernel,
        x: &[f32],
        columns: usize,
        use_them: impl FnOnce(&Bf16Activations<'_>) -> R,
    ) -> R {
        let (rows, line) = (x.len() / columns, 16);
        let own = columns.div_ceil(2) * kernel.words;
        let lines = own.div_ceil(line);
        let stride = (lines + 1 - lines % 2) * line;
        scratch::with(&PACKED_A, rows * stride, |words: &mut [u32]| {
            let to = SharedMut::new(words);
            parallel_for_ranges(rows, 4 * columns, |rows| {
                for row in rows {
                    // SAFETY: this task alone owns these rows; the kernel is offered only where its instruction set is.
                    unsafe {
                        let words = to.slice(row * stride, own);
                        (kernel.round)(&x[row * columns..(row + 1) * columns], words);
                    }
                }
            });
            use_them(&Bf16Activations { words, stride, rows })
        })
    }
}
