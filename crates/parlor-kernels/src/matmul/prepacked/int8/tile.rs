//! What the int8 products need of an instruction set: a kernel that multiplies the interleaved blocks of a panel with quantized
//! activation rows, and its companions.

use super::q8_block::Q8Block;
use crate::memory::prepacked::layout::{BLOCK, PANEL, PackedLayout};
use crate::memory::scratch::CacheLine;

/// An int8 kernel whose instruction set this machine has.
#[derive(Clone, Copy)]
pub struct Int8Kernel {
    pub(crate) name: &'static str,
    /// MR: activation rows of a tile, at most.
    pub(crate) rows: usize,
    /// Computes a tile.
    pub(crate) run: unsafe fn(Int8Tile<'_>, Accumulators),
    /// Expands quants of 4 to 6 bits to 8 ([`PackedLayout::as_int8`]), where many rows gain by that.
    pub(crate) unpack: Option<unsafe fn(PackedLayout, &[CacheLine], &mut [CacheLine])>,
    /// Quantizes activations, block by block; all kernels agree to the bit.
    pub(crate) quantize: unsafe fn(&[f32], &mut [[i8; BLOCK]], &mut [Q8Block]),
}

impl Int8Kernel {
    /// A name for messages.
    pub fn name(self) -> &'static str {
        self.name
    }
}

/// Where a tile's sums go: rows of 32.
#[derive(Clone, Copy)]
pub(crate) struct Accumulators {
    pub(super) to: *mut f32,
    /// Elements from one row to the next.
    pub(super) stride: usize,
    pub(super) rows: usize,
    /// Whether sums start from zero, or from what `to` holds.
    pub(super) from_zero: bool,
    /// Output pointer and row stride, for prefetching only; may dangle.
    pub(super) prefetch: (*const f32, usize),
}

impl Accumulators {
    /// A row, initialized.
    ///
    /// # Safety
    /// The row is there, and nobody else accesses it.
    pub(super) unsafe fn begin<'a>(self, row: usize) -> &'a mut [f32] {
        // SAFETY: the contract of the caller.
        let own = unsafe { std::slice::from_raw_parts_mut(self.to.add(row * self.stride), PANEL) };
        if self.from_zero {
            own.fill(0.0);
        }
        own
    }
}

/// Some blocks of a panel and as many of some activation rows.
#[derive(Clone, Copy)]
pub(crate) struct Int8Tile<'a> {
    pub(super) layout: PackedLayout,
    /// The interleaved blocks.
    pub(super) lines: &'a [CacheLine],
    /// Quants from the first row's first block on; rows are `stride` blocks apart.
    pub(super) quants: &'a [[i8; BLOCK]],
    /// Their scales and sums.
    pub(super) q8: &'a [Q8Block],
    pub(super) stride: usize,
}

impl Int8Tile<'_> {
    /// The number of blocks of 32 columns; panics where `rows` rows do not have as many.
    pub(super) fn blocks(&self, rows: usize) -> usize {
        let blocks = self.lines.len() / self.layout.lines() * self.layout.blocks();
        assert!(
            blocks == 0
                || rows == 0
                || (rows - 1) * self.stride + blocks <= self.quants.len().min(self.q8.len()),
            "{rows} rows of {blocks} blocks"
        );
        blocks
    }
}
