//! The problem that gemm solves: its sizes, operands, results, and a low-rank epilogue.

use super::batch::BatchedOperand;
use super::bf16_store::Bf16Store;
use super::microkernel::Rounding;
use super::operand::Operand;
use crate::matmul::write::Write;
use crate::memory::ValuesMut;
use crate::parallel::SharedMut;

/// Sizes of a product: the result is `[rows, columns]`, contiguous; the sums run over `depth`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GemmSize {
    /// M: rows of the result.
    pub rows: usize,
    /// N: columns of the result.
    pub columns: usize,
    /// K: length of the sums.
    pub depth: usize,
}

/// The result of one A operand times one B operand.
pub struct GemmOutput<'a> {
    /// `[rows of A, columns of B]`, contiguous; bf16 gets the f32 sums rounded to nearest.
    pub to: ValuesMut<'a>,
    /// What becomes of the old content of `to`.
    pub write: Write,
    /// An addend of the same shape, instead of `to`; only where `to` is f32.
    pub addend: Option<&'a [f32]>,
    /// A low-rank product that is added; only where there is one A operand and `to` is f32.
    pub epilogue: Option<LowRankEpilogue<'a>>,
}

/// A second product of the same shape and small depth, added to each tile right after the first while the tile is in L1: the
/// low-rank update of a weight.
#[derive(Clone, Copy, Debug)]
pub struct LowRankEpilogue<'a> {
    /// Its lanes are the rows of the result.
    pub a: Operand<'a>,
    /// Its lanes are the columns of the result.
    pub b: Operand<'a>,
    /// Length of its sums: the rank.
    pub depth: usize,
}

/// Where a result goes.
#[derive(Clone, Copy)]
pub(super) enum Destination {
    /// And the start of the addend, or null.
    F32 { to: SharedMut<f32>, addend: *const f32 },
    /// By way of f32 sums of a part of it.
    Bf16(Bf16Store),
}

// SAFETY: the addend is read while `to` is written, by the same tasks, and outlives the product.
unsafe impl Send for Destination {}
// SAFETY: as above.
unsafe impl Sync for Destination {}

/// A checked batch of products.
pub(super) struct GemmProblem<'a> {
    pub(super) a: &'a [BatchedOperand<'a>],
    pub(super) b: &'a [BatchedOperand<'a>],
    pub(super) depth: usize,
    /// The destination of each A operand with each B operand, in this order.
    pub(super) to: &'a [Destination],
    /// Their epilogues, in the same order.
    pub(super) epilogues: &'a [Option<LowRankEpilogue<'a>>],
    pub(super) rounding: Rounding,
}

impl GemmProblem<'_> {
    /// Where the product of an A operand and a B operand goes.
    pub(super) fn destination(&self, a: usize, b: usize) -> Destination {
        self.to[a * self.b.len() + b]
    }

    /// The epilogue of the product with a B operand.
    pub(super) fn epilogue(&self, b: usize) -> Option<LowRankEpilogue<'_>> {
        self.epilogues.get(b).copied().flatten()
    }

    /// Whether a result is bf16.
    pub(super) fn has_bf16_results(&self) -> bool {
        self.to.iter().any(|destination| matches!(destination, Destination::Bf16(_)))
    }
}
