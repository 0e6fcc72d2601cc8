//! Prefetching of weights, x86.

use std::arch::x86_64::*;

use crate::memory::prepacked::layout::LINE_BYTES;

/// Prefetch distance in bytes: about as many as arrive during one memory latency.
pub(super) const PREFETCH_BYTES: usize = 6 << 10;

/// Prefetches `count` lines, [`PREFETCH_BYTES`] past `lines`.
#[inline(always)]
pub(super) fn prefetch_lines(lines: *const u8, count: usize) {
    for line in 0..count {
        // SAFETY: a prefetch may miss.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(lines.wrapping_add(PREFETCH_BYTES + LINE_BYTES * line).cast()) };
    }
}
