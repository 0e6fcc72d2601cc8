//! What a product needs of an instruction set: a tile of the result from two packed panels, and the packing.
//!
//! A panel holds some rows of the result's left operand, or columns of its right one, its *lanes*, depth first:
//! `panel[step][lane]`, where a step is `GROUP` consecutive values of the depth. Unused lanes and the values that
//! fill the last step are zero.

use bytemuck::Pod;
use half::bf16;

use crate::Write;

/// Whether packing rounds the values to bf16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rounding {
    /// They stay f32.
    None,
    /// To nearest, ties to even.
    Bf16,
}

/// Where a tile of the result goes.
#[derive(Clone, Copy)]
pub(crate) struct Tile {
    /// Its first element.
    pub(crate) to: *mut f32,
    /// Elements from one row to the next.
    pub(crate) stride: usize,
    /// Rows to write, 1 to [`Kernel::ROWS`].
    pub(crate) rows: usize,
    /// Columns to write, 1 to [`Kernel::COLUMNS`].
    pub(crate) columns: usize,
    /// What the sums are added to, in rows as far apart: the tile itself, another matrix's part, or null for nothing.
    pub(crate) from: *const f32,
}

impl Write {
    /// What is added to sums that go to `to`.
    pub(crate) fn onto(self, to: *const f32) -> *const f32 {
        if self == Write::Accumulate { to } else { std::ptr::null() }
    }
}

/// How packed panels lie in memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Panels {
    /// Lanes that hold rows or columns of the operand.
    pub(crate) used: usize,
    /// Lanes in all.
    pub(crate) stride: usize,
    /// Steps there is room for.
    pub(crate) steps: usize,
}

impl Panels {
    /// Elements of one panel.
    pub(crate) fn len(self) -> usize {
        self.stride * self.steps
    }
}

/// Rows to pack, `count` of `width` values each, `stride` apart.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a, T = f32> {
    pub(crate) values: &'a [T],
    pub(crate) stride: usize,
    pub(crate) count: usize,
    pub(crate) width: usize,
}

impl<'a, T> Rows<'a, T> {
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

/// Longest panel, in steps: a left panel stays in the nearest cache while right panels stream past it.
pub(crate) const STEPS: usize = 384;
/// Lanes that are packed at a time.
pub(crate) const BUNDLE: usize = 16;

pub(crate) trait Kernel {
    /// One step of one lane.
    type Element: Pod + Send + Sync;
    /// Rows of a tile: lanes of a left panel in use.
    const ROWS: usize;
    /// Lanes of a left panel: rows of a tile, and what fills a register.
    const LEFT: usize;
    /// Columns of a tile and lanes of a right panel.
    const COLUMNS: usize;
    /// Values of the depth in one element.
    const GROUP: usize;
    /// Right panels that stay in a core's second-level cache while left panels pass.
    const NEAR: usize;

    /// Computes one tile over `steps` steps.
    ///
    /// # Safety
    /// The instruction set is there; `left` and `right` hold `steps` steps of a panel; the rows and columns of
    /// `tile` may be written (and read) and nobody else touches them meanwhile; as many are read from where the sums are
    /// added to.
    unsafe fn tile(steps: usize, left: *const Self::Element, right: *const Self::Element, tile: Tile);

    /// Packs rows that run along the depth: row `r` becomes lane `r % used` of panel `r / used`.
    ///
    /// # Safety
    /// The instruction set is there; `out` has room for the panels.
    unsafe fn pack_across(rows: Rows<'_>, layout: Panels, rounding: Rounding, out: &mut [Self::Element]);

    /// Packs rows that run along the lanes: rows `GROUP * s..` become step `first_step + s` of all panels.
    ///
    /// # Safety
    /// The instruction set is there; `out` has room for the panels.
    unsafe fn pack_along(
        rows: Rows<'_>,
        first_step: usize,
        layout: Panels,
        rounding: Rounding,
        out: &mut [Self::Element],
    );

    /// Whether bf16 rows are packed as they are.
    const TAKES_BF16: bool = false;

    /// As [`Self::pack_across`], of bf16 rows, where the kernel takes them.
    ///
    /// # Safety
    /// As there.
    unsafe fn pack_across_bf16(_: Rows<'_, bf16>, _: Panels, _: &mut [Self::Element]) {}

    /// As [`Self::pack_along`], of bf16 rows, where the kernel takes them.
    ///
    /// # Safety
    /// As there.
    unsafe fn pack_along_bf16(_: Rows<'_, bf16>, _: usize, _: Panels, _: &mut [Self::Element]) {}
}
