//! Activation rows quantized to 8 bits, for products with prepacked quantized weights.

use std::cell::Cell;

use super::q8_block::Q8Block;
use super::tile::Int8Kernel;
use crate::memory::prepacked::layout::BLOCK;
use crate::parallel::SharedMut;
use crate::parallel::threads::parallel_for_ranges;

/// Quantized activations, `[rows, columns]`: int8 quants, and a scale for every 32 of them.
#[derive(Clone, Debug, Default)]
pub struct QuantizedActivations {
    rows: usize,
    columns: usize,
    quants: Vec<[i8; BLOCK]>,
    q8: Vec<Q8Block>,
}

thread_local! {
    /// The activations that the thread quantized last, for their memory.
    static LAST: Cell<QuantizedActivations> = Cell::default();
}

impl QuantizedActivations {
    /// Quantizes `x`, `[rows, columns]`, to nearest.
    ///
    /// # Panics
    /// When `columns` is no multiple of 32, or `x` no whole number of rows.
    pub fn quantize(kernel: Int8Kernel, x: &[f32], columns: usize) -> Self {
        let mut activations = Self::default();
        activations.fill(kernel, x, columns);
        activations
    }

    /// Calls `use_them` with the quantized `x`, in memory that is reused.
    pub(super) fn with<R>(
        kernel: Int8Kernel,
        x: &[f32],
        columns: usize,
        use_them: impl FnOnce(&Self) -> R,
    ) -> R {
        let mut activations = LAST.take();
        activations.fill(kernel, x, columns);
        let result = use_them(&activations);
        LAST.set(activations);
        result
    }

    fn fill(&mut self, kernel: Int8Kernel, x: &[f32], columns: usize) {
        assert!(
            columns > 0 && columns.is_multiple_of(BLOCK) && x.len().is_multiple_of(columns),
            "blocks of 32"
        );
        (self.rows, self.columns) = (x.len() / columns, columns);
        let blocks = x.len() / BLOCK;
        self.quants.resize(blocks, [0; BLOCK]);
        self.q8.resize(blocks, Q8Block::default());
        let (quants, q8) = (SharedMut::new(&mut self.quants), SharedMut::new(&mut self.q8));
        parallel_for_ranges(blocks, 4 * BLOCK, |own| {
            // SAFETY: this task alone owns these blocks.
            let (quants, q8) =
                unsafe { (quants.slice(own.start, own.len()), q8.slice(own.start, own.len())) };
            // SAFETY: the kernel is offered only where its instruction set is.
            unsafe { (kernel.quantize)(&x[own.start * BLOCK..own.end * BLOCK], quants, q8) };
        });
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns of each.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The value that the product multiplies.
    pub fn value(&self, row: usize, column: usize) -> f32 {
        let at = row * (self.columns / BLOCK) + column / BLOCK;
        f32::from(self.quants[at][column % BLOCK]) * self.q8[at].scale
    }

    /// Quants of all blocks, `[row][block]`.
    pub(super) fn quants(&self) -> &[[i8; BLOCK]] {
        &self.quants
    }

    /// Scales and sums of all blocks.
    pub(super) fn q8(&self) -> &[Q8Block] {
        &self.q8
    }
}
