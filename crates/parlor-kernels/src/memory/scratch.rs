//! Buffers that each thread keeps between calls, so that packing allocates nothing after the first call.
//!
//! [`with`] takes the buffer out of its cell while it is in use. A nested call for the same buffer on the same thread
//! finds the cell empty and allocates its own; the larger of the two is kept.

use std::cell::Cell;
use std::thread::LocalKey;

use bytemuck::{Pod, Zeroable};

/// One cache line; a buffer of them is aligned to one.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C, align(64))]
pub(crate) struct CacheLine([u32; 16]);

/// A thread-local buffer.
pub(crate) type ScratchBuffer = LocalKey<Cell<Vec<CacheLine>>>;

thread_local! {
    /// Packed A operand.
    pub(crate) static PACKED_A: Cell<Vec<CacheLine>> = const { Cell::new(Vec::new()) };
    /// Packed B operand.
    pub(crate) static PACKED_B: Cell<Vec<CacheLine>> = const { Cell::new(Vec::new()) };
    /// Panels of the low-rank product in an epilogue.
    pub(crate) static LOW_RANK_PANELS: Cell<Vec<CacheLine>> = const { Cell::new(Vec::new()) };
    /// f32 sums before they are rounded to bf16.
    pub(crate) static ACCUMULATORS: Cell<Vec<CacheLine>> = const { Cell::new(Vec::new()) };
    /// Panels of a weight that is packed for one product only.
    pub(crate) static WEIGHT_PANELS: Cell<Vec<CacheLine>> = const { Cell::new(Vec::new()) };
    /// Panels of quants unpacked to int8.
    pub(crate) static UNPACKED_QUANTS: Cell<Vec<CacheLine>> = const { Cell::new(Vec::new()) };
    /// Tiles of an attention task.
    pub(crate) static ATTENTION: Cell<Vec<CacheLine>> = const { Cell::new(Vec::new()) };
    /// Rows widened to f32 before they are packed.
    pub(crate) static WIDENED_ROWS: Cell<Vec<CacheLine>> = const { Cell::new(Vec::new()) };
}

/// Calls `f` with `len` elements of `buffer`, whose contents are arbitrary.
pub(crate) fn with<T: Pod, R>(
    buffer: &'static ScratchBuffer,
    len: usize,
    f: impl FnOnce(&mut [T]) -> R,
) -> R {
    let mut lines = buffer.take();
    let needed = (len * size_of::<T>()).div_ceil(size_of::<CacheLine>());
    if lines.len() < needed {
        lines = vec![CacheLine::zeroed(); needed];
    }
    let result = f(&mut bytemuck::cast_slice_mut(&mut lines)[..len]);
    let nested = buffer.take();
    buffer.set(if nested.len() > lines.len() { nested } else { lines });
    result
}

/// As [`with`], of two buffers.
pub(crate) fn with_two<A: Pod, B: Pod, R>(
    ((first, first_len), (second, second_len)): (
        (&'static ScratchBuffer, usize),
        (&'static ScratchBuffer, usize),
    ),
    f: impl FnOnce(&mut [A], &mut [B]) -> R,
) -> R {
    with(first, first_len, |a| with(second, second_len, |b| f(a, b)))
}

/// As [`with`], split into sections of the lengths `lens`, each aligned to a cache line.
pub(crate) fn with_sections<const N: usize, R>(
    buffer: &'static ScratchBuffer,
    lens: [usize; N],
    f: impl FnOnce([&mut [f32]; N]) -> R,
) -> R {
    let aligned = |len: usize| len.next_multiple_of(size_of::<CacheLine>() / size_of::<f32>());
    with(buffer, lens.into_iter().map(aligned).sum(), |mut rest: &mut [f32]| {
        f(lens.map(|len| {
            let (section, after) = std::mem::take(&mut rest).split_at_mut(aligned(len));
            rest = after;
            &mut section[..len]
        }))
    })
}
