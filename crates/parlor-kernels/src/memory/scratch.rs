//! Buffers that a thread keeps from call to call, so that packing allocates nothing after the first time.
//!
//! A buffer is taken out of its slot while it is in use: a task that the same thread steals meanwhile finds the
//! slot empty and brings its own, and the larger one is kept.

use std::cell::Cell;
use std::thread::LocalKey;

use bytemuck::{Pod, Zeroable};

/// One cache line; a buffer of them is aligned to one.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C, align(64))]
pub(crate) struct Line([u32; 16]);

/// Where a thread keeps a buffer.
pub(crate) type Slot = LocalKey<Cell<Vec<Line>>>;

thread_local! {
    /// A product's left operand, packed.
    pub(crate) static LEFT: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
    /// A product's right operand, packed.
    pub(crate) static RIGHT: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
    /// Panels of a thin product beside another.
    pub(crate) static THIN: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
    /// Sums of a product before they are rounded.
    pub(crate) static SUMS: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
    /// Panels of a weight that is packed for one product.
    pub(crate) static PANELS: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
    /// The same with a byte for each level.
    pub(crate) static UNPACKED: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
    /// What a task of attention computes with.
    pub(crate) static ATTENTION: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
    /// Widened rows on their way into a packed operand.
    pub(crate) static ROWS: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
}

/// Calls `use_it` with `len` elements of `slot`'s buffer. Their content is whatever it was.
pub(crate) fn with<T: Pod, R>(slot: &'static Slot, len: usize, use_it: impl FnOnce(&mut [T]) -> R) -> R {
    let mut buffer = slot.take();
    let lines = (len * size_of::<T>()).div_ceil(size_of::<Line>());
    if buffer.len() < lines {
        buffer = vec![Line::zeroed(); lines];
    }
    let result = use_it(&mut bytemuck::cast_slice_mut(&mut buffer)[..len]);
    let kept = slot.take();
    slot.set(if kept.len() > buffer.len() { kept } else { buffer });
    result
}

/// As [`with`], of two buffers.
pub(crate) fn with_two<A: Pod, B: Pod, R>(
    ((first, first_len), (second, second_len)): ((&'static Slot, usize), (&'static Slot, usize)),
    use_them: impl FnOnce(&mut [A], &mut [B]) -> R,
) -> R {
    with(first, first_len, |a| with(second, second_len, |b| use_them(a, b)))
}

/// As [`with`], in parts of these lengths, each of which begins with a line of its own.
pub(crate) fn with_parts<const N: usize, R>(
    slot: &'static Slot,
    lens: [usize; N],
    use_them: impl FnOnce([&mut [f32]; N]) -> R,
) -> R {
    let whole = |len: usize| len.next_multiple_of(size_of::<Line>() / size_of::<f32>());
    with(slot, lens.into_iter().map(whole).sum(), |mut all: &mut [f32]| {
        use_them(lens.map(|len| {
            let (part, rest) = std::mem::take(&mut all).split_at_mut(whole(len));
            all = rest;
            &mut part[..len]
        }))
    })
}
