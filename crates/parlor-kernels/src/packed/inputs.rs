//! Input rows rounded to 8 bits, block by block, for a product with packed weights.

use rayon::prelude::*;

use super::{BLOCK, offset};
use crate::BlockFormat;
use crate::simd::dispatch;

/// Rows whose blocks are tasks of their own.
const TASK: usize = 16;

/// What a block of an input row is, beside its codes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct BlockOf {
    /// What its codes are multiplied by.
    pub(super) scale: f32,
    /// Sum of its codes.
    pub(super) sum: i32,
}

/// `[rows, columns]` inputs, ordered `[block][row]`: those of a block lie side by side.
#[derive(Clone, Debug)]
pub struct Inputs {
    rows: usize,
    columns: usize,
    codes: Vec<[i8; BLOCK]>,
    about: Vec<BlockOf>,
}

impl Inputs {
    /// Rounds `x`, `[rows, columns]`, to nearest, by the rule of `Q8_0` with f32 scales.
    ///
    /// # Panics
    /// When `columns` is no multiple of 32, or `x` no whole number of rows.
    pub fn quantize(x: &[f32], columns: usize) -> Self {
        assert!(
            columns > 0 && columns.is_multiple_of(BLOCK) && x.len().is_multiple_of(columns),
            "blocks of 32"
        );
        let (rows, blocks) = (x.len() / columns, columns / BLOCK);
        let mut inputs = Self {
            rows,
            columns,
            codes: vec![[0; BLOCK]; rows * blocks],
            about: vec![BlockOf::default(); rows * blocks],
        };
        // A few rows are rounded sooner than another thread begins.
        let per_task = if rows < TASK { blocks } else { 1 };
        let parts = inputs.codes.par_chunks_mut(rows.max(1)).zip(inputs.about.par_chunks_mut(rows.max(1)));
        parts.enumerate().with_min_len(per_task).for_each(|(block, (codes, about))| {
            dispatch(
                #[inline(always)]
                || {
                    for (row, (codes, about)) in codes.iter_mut().zip(about).enumerate() {
                        let at = row * columns + block * BLOCK;
                        *about = round(&x[at..at + BLOCK], codes);
                    }
                },
            );
        });
        inputs
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns of each.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// What the product takes this input for.
    pub fn value(&self, row: usize, column: usize) -> f32 {
        let at = column / BLOCK * self.rows + row;
        f32::from(self.codes[at][column % BLOCK]) * self.about[at].scale
    }

    /// Codes of a block of some rows.
    pub(super) fn codes(&self, block: usize, rows: &std::ops::Range<usize>) -> &[[i8; BLOCK]] {
        &self.codes[block * self.rows + rows.start..block * self.rows + rows.end]
    }

    /// The rest of a block of some rows.
    pub(super) fn about(&self, block: usize, rows: &std::ops::Range<usize>) -> &[BlockOf] {
        &self.about[block * self.rows + rows.start..block * self.rows + rows.end]
    }
}

impl BlockOf {
    /// Where sums of products with weights of this format begin.
    #[inline(always)]
    pub(super) fn start(self, format: BlockFormat) -> i32 {
        -offset(format) * self.sum
    }
}

/// A block's nearest codes. What is not finite makes its scale so, and every product with it.
#[inline(always)]
fn round(x: &[f32], codes: &mut [i8; BLOCK]) -> BlockOf {
    let (mut max, mut poison) = (0.0f32, 0.0f32);
    for &x in x {
        max = if x.abs() > max { x.abs() } else { max };
        // Zero for what is finite, else NaN.
        poison += x * 0.0;
    }
    let scale = max / 127.0 + poison;
    let inverse = if max > 0.0 { 127.0 / max } else { 0.0 };
    let mut sum = 0;
    for (code, &x) in codes.iter_mut().zip(x) {
        // 1.5 * 2^23 leaves no digits after the point: to nearest, ties to even.
        let rounded = (x * inverse + 12_582_912.0) - 12_582_912.0;
        *code = rounded as i8;
        sum += i32::from(*code);
    }
    BlockOf { scale, sum }
}
