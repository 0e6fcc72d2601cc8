//! What the bf16 products need of an instruction set: a kernel that multiplies a panel of bf16 pairs with rounded activation rows.

use crate::matmul::write::Write;

/// A bf16 kernel whose instruction set this machine has.
#[derive(Clone, Copy)]
pub struct Bf16Kernel {
    pub(crate) name: &'static str,
    /// MR: activation rows of a tile, at most.
    pub(crate) rows: usize,
    /// Computes a tile.
    pub(crate) run: unsafe fn(Bf16Tile),
    /// Rounds an activation row to `words` words of 32 bits for each step.
    pub(crate) round: unsafe fn(&[f32], &mut [u32]),
    /// Words of a step: 1, a bf16 pair; or 2, both as f32, for kernels that multiply in f32.
    pub(crate) words: usize,
    /// Rows above which widening the weight into f32 gemm panels is faster.
    pub(crate) widen_rows: usize,
}

impl Bf16Kernel {
    /// A name for messages.
    pub fn name(self) -> &'static str {
        self.name
    }
}

/// The operands and the result of a tile.
#[derive(Clone, Copy)]
pub(crate) struct Bf16Tile {
    /// The first activation row, as the kernel rounds it; rows are `stride` words apart.
    pub(super) x: *const u32,
    pub(super) stride: usize,
    /// `[step][32]` pairs of the weight.
    pub(super) panel: *const u32,
    pub(super) steps: usize,
    /// The result's first element; its rows are `outputs` apart.
    pub(super) to: *mut f32,
    pub(super) outputs: usize,
    pub(super) rows: usize,
    /// 1 to 32.
    pub(super) columns: usize,
    pub(super) write: Write,
    /// `columns` values, or null.
    pub(super) bias: *const f32,
}
