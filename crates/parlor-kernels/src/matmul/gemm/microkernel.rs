//! What gemm needs of an instruction set: a microkernel that computes a tile of the result from two packed panels, and the packing.
//!
//! A packed A panel holds MR rows of the left operand, a packed B panel NR columns of the right one. A row or column is a *lane*;
//! panels are K-major, `panel[step][lane]`, where an element of a lane holds `K_PER_LANE` consecutive values of K: one f32, or a bf16
//! pair. Unused lanes and the values that fill the last step are zero.
//!
//! ```text
//! B panel, f32, NR = 16:         k 0: col 0 .. col 15 | k 1: col 0 .. col 15 | ...      4 bytes per lane
//! B panel, bf16 pairs, NR = 32:  k 0,1: col 0 [k0 k1] .. col 31 [k0 k1] | k 2,3: ...    2 x 2 bytes per lane
//! A panel, MR = 6 of 8 lanes:    k 0: row 0 .. row 5, unused, unused | k 1: ...
//! ```

use bytemuck::Pod;
use half::bf16;

/// Whether packing rounds the values to bf16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rounding {
    /// They stay f32.
    None,
    /// To nearest, ties to even.
    Bf16,
}

/// A tile of the result.
#[derive(Clone, Copy)]
pub(crate) struct OutputTile {
    /// Its first element.
    pub(crate) to: *mut f32,
    /// Elements from one row to the next.
    pub(crate) stride: usize,
    /// Rows to write, 1 to [`Microkernel::MR`].
    pub(crate) rows: usize,
    /// Columns to write, 1 to [`Microkernel::NR`].
    pub(crate) columns: usize,
    /// What the sums are added to, with the same stride: the tile itself, part of another matrix, or null.
    pub(crate) addend: *const f32,
}

/// How packed panels lie in memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PanelLayout {
    /// Lanes that hold rows or columns of the operand.
    pub(crate) used: usize,
    /// Lanes in all.
    pub(crate) stride: usize,
    /// Steps there is room for.
    pub(crate) steps: usize,
}

impl PanelLayout {
    /// Elements of one panel.
    pub(crate) fn len(self) -> usize {
        self.stride * self.steps
    }
}

/// Rows to pack, `count` of `width` values each, `stride` apart.
#[derive(Clone, Copy)]
pub(crate) struct StridedRows<'a, T = f32> {
    pub(crate) values: &'a [T],
    pub(crate) stride: usize,
    pub(crate) count: usize,
    pub(crate) width: usize,
}

impl<'a, T> StridedRows<'a, T> {
    /// Values `from..to` of row `index`, as far as there are any.
    pub(crate) fn part(&self, index: usize, from: usize, to: usize) -> &'a [T] {
        let (from, to) = (from.min(self.width), to.min(self.width));
        if index < self.count {
            &self.values[index * self.stride + from..index * self.stride + to]
        } else {
            &[]
        }
    }
}

/// Longest panel, in steps: an A panel stays in L1 while B panels stream past it.
pub(crate) const KC: usize = 384;
/// Lanes that are packed at a time.
pub(crate) const PACK_LANES: usize = 16;

/// A register-tiled microkernel and its packing.
pub(crate) trait Microkernel {
    /// An element of a lane.
    type Element: Pod + Send + Sync;
    /// Rows of a tile: used lanes of an A panel.
    const MR: usize;
    /// Lanes of an A panel: MR, filled up to whole registers.
    const A_LANES: usize;
    /// Columns of a tile: lanes of a B panel.
    const NR: usize;
    /// Values of K in an element.
    const K_PER_LANE: usize;
    /// B panels that stay resident in L2 while A panels pass.
    const RESIDENT_PANELS: usize;

    /// Computes one tile over `steps` steps.
    ///
    /// # Safety
    /// The instruction set is there; `a` and `b` hold `steps` steps of a panel; the rows and columns of `tile` may be read and
    /// written and nobody else accesses them meanwhile; the addend has as many.
    unsafe fn compute(steps: usize, a: *const Self::Element, b: *const Self::Element, tile: OutputTile);

    /// Packs K-contiguous rows: row `r` becomes lane `r % used` of panel `r / used`.
    ///
    /// # Safety
    /// The instruction set is there; `out` has room for the panels.
    unsafe fn pack_k_contiguous(
        rows: StridedRows<'_>,
        layout: PanelLayout,
        rounding: Rounding,
        out: &mut [Self::Element],
    );

    /// Packs MN-contiguous rows: rows `K_PER_LANE * s..` become step `first_step + s` of all panels.
    ///
    /// # Safety
    /// The instruction set is there; `out` has room for the panels.
    unsafe fn pack_mn_contiguous(
        rows: StridedRows<'_>,
        first_step: usize,
        layout: PanelLayout,
        rounding: Rounding,
        out: &mut [Self::Element],
    );

    /// Whether bf16 rows are packed without being widened first.
    const PACKS_BF16: bool = false;

    /// As [`Self::pack_k_contiguous`], of bf16 rows, where the kernel takes them.
    ///
    /// # Safety
    /// As there.
    unsafe fn pack_k_contiguous_bf16(_: StridedRows<'_, bf16>, _: PanelLayout, _: &mut [Self::Element]) {}

    /// As [`Self::pack_mn_contiguous`], of bf16 rows, where the kernel takes them.
    ///
    /// # Safety
    /// As there.
    unsafe fn pack_mn_contiguous_bf16(
        _: StridedRows<'_, bf16>,
        _: usize,
        _: PanelLayout,
        _: &mut [Self::Element],
    ) {
    }
}
