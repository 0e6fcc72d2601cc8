//! Input rows rounded to 8 bits, block by block, for a product with packed weights of few bits.

use std::cell::Cell;

use super::BLOCK;
use super::order::Kind;
use crate::cpu::simd::dispatch;
use crate::parallel::SharedMut;
use crate::parallel::threads::parallel_for_ranges;

/// What a block of an input row is, beside its codes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C)]
pub(super) struct BlockOf {
    /// What its codes are multiplied by.
    pub(super) scale: f32,
    /// What is added for each unit that was taken from a weight.
    pub(super) minus_total: f32,
    /// Sum of its codes, its sign changed, and of either half of them.
    pub(super) minus_sum: i32,
    pub(super) minus_first: i32,
    pub(super) minus_second: i32,
}

impl BlockOf {
    #[inline(always)]
    pub(super) fn new(scale: f32, [first, second]: [i32; 2]) -> Self {
        let minus_sum = -(first + second);
        let minus_total = scale * minus_sum as f32;
        Self { scale, minus_total, minus_sum, minus_first: -first, minus_second: -second }
    }

    /// The sum of a fold's codes, its sign changed.
    #[inline(always)]
    pub(super) fn minus_sum_of<K: Kind>(&self, fold: usize) -> &i32 {
        match K::ORDER.folds() {
            1 => &self.minus_sum,
            _ if fold == 0 => &self.minus_first,
            _ => &self.minus_second,
        }
    }
}

/// `[rows, columns]` inputs, row by row: codes of 8 bits, and a scale for every 32 of them.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    rows: usize,
    columns: usize,
    codes: Vec<[i8; BLOCK]>,
    about: Vec<BlockOf>,
}

thread_local! {
    /// What the thread rounded last, for its memory.
    static KEPT: Cell<Inputs> = Cell::default();
}

impl Inputs {
    /// Rounds `x`, `[rows, columns]`, to nearest, by the rule of `Q8_0` with f32 scales.
    ///
    /// # Panics
    /// When `columns` is no multiple of 32, or `x` no whole number of rows.
    pub fn quantize(x: &[f32], columns: usize) -> Self {
        let mut inputs = Self::default();
        inputs.fill(x, columns);
        inputs
    }

    /// Calls `use_them` with the inputs [`quantize`](Self::quantize) makes of `x`, in memory that is used again.
    pub(crate) fn with<R>(x: &[f32], columns: usize, use_them: impl FnOnce(&Self) -> R) -> R {
        let mut inputs = KEPT.take();
        inputs.fill(x, columns);
        let result = use_them(&inputs);
        KEPT.set(inputs);
        result
    }

    fn fill(&mut self, x: &[f32], columns: usize) {
        assert!(
            columns > 0 && columns.is_multiple_of(BLOCK) && x.len().is_multiple_of(columns),
            "blocks of 32"
        );
        (self.rows, self.columns) = (x.len() / columns, columns);
        let blocks = x.len() / BLOCK;
        self.codes.resize(blocks, [0; BLOCK]);
        self.about.resize(blocks, BlockOf::default());
        let (codes, about) = (SharedMut::new(&mut self.codes), SharedMut::new(&mut self.about));
        parallel_for_ranges(blocks, 4 * BLOCK, |own| {
            // SAFETY: this task alone owns these blocks.
            let (codes, about) =
                unsafe { (codes.slice(own.start, own.len()), about.slice(own.start, own.len())) };
            round(&x[own.start * BLOCK..own.end * BLOCK], codes, about);
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

    /// What the product takes this input for.
    pub fn value(&self, row: usize, column: usize) -> f32 {
        let at = row * (self.columns / BLOCK) + column / BLOCK;
        f32::from(self.codes[at][column % BLOCK]) * self.about[at].scale
    }

    /// Codes of all blocks, `[row][block]`.
    pub(super) fn codes(&self) -> &[[i8; BLOCK]] {
        &self.codes
    }

    /// The rest of them.
    pub(super) fn about(&self) -> &[BlockOf] {
        &self.about
    }
}

/// Rounds blocks of `x`.
fn round(x: &[f32], codes: &mut [[i8; BLOCK]], about: &mut [BlockOf]) {
    #[cfg(target_arch = "x86_64")]
    if super::avx512::here() {
        // SAFETY: the instruction set is there.
        return unsafe { super::avx512::round(x, codes, about) };
    }
    dispatch(
        #[inline(always)]
        || {
            for ((x, codes), about) in x.chunks_exact(BLOCK).zip(codes).zip(about) {
                *about = nearest(x, codes);
            }
        },
    );
}

/// A block's nearest codes. What is not finite makes its scale so, and every product with it.
#[inline(always)]
fn nearest(x: &[f32], codes: &mut [i8; BLOCK]) -> BlockOf {
    let (mut max, mut poison) = (0.0f32, 0.0f32);
    for &x in x {
        max = if x.abs() > max { x.abs() } else { max };
        // Zero for what is finite, else NaN.
        poison += x * 0.0;
    }
    let scale = max / 127.0 + poison;
    let inverse = if max > 0.0 { 127.0 / max } else { 0.0 };
    let mut sums = [0; 2];
    let halves = codes.chunks_exact_mut(BLOCK / 2).zip(x.chunks_exact(BLOCK / 2));
    for ((codes, x), sum) in halves.zip(&mut sums) {
        for (code, &x) in codes.iter_mut().zip(x) {
            // 1.5 * 2^23 leaves no digits after the point: to nearest, ties to even.
            let rounded = (x * inverse + 12_582_912.0) - 12_582_912.0;
            *code = rounded as i8;
            *sum += i32::from(*code);
        }
    }
    BlockOf::new(scale, sums)
}
