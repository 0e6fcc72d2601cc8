//! The portable kernel, compiled for 256-bit registers with FMA.

use super::kernel::{BUNDLE, Kernel, Panels, Rounding, Rows, Tile};
use super::portable::{COLUMNS, ROWS, pack_across_body, pack_along_body, tile_with};

/// f32 panels, FMA.
pub(crate) struct Avx2;

impl Kernel for Avx2 {
    type Element = f32;
    const ROWS: usize = ROWS;
    const LEFT: usize = BUNDLE;
    const COLUMNS: usize = COLUMNS;
    const GROUP: usize = 1;

    unsafe fn tile(steps: usize, left: *const f32, right: *const f32, tile: Tile) {
        #[target_feature(enable = "avx2,fma")]
        fn compiled(steps: usize, left: *const f32, right: *const f32, tile: Tile) {
            // SAFETY: the contract of `Kernel::tile`, which the one caller passes on.
            unsafe { tile_with(steps, left, right, tile, true) }
        }
        // SAFETY: the contract of the caller.
        unsafe { compiled(steps, left, right, tile) }
    }

    unsafe fn pack_across(rows: Rows<'_>, layout: Panels, rounding: Rounding, out: &mut [f32]) {
        #[target_feature(enable = "avx2,fma")]
        fn compiled(rows: Rows<'_>, layout: Panels, rounding: Rounding, out: &mut [f32]) {
            pack_across_body(rows, layout, rounding, out);
        }
        // SAFETY: the contract of the caller.
        unsafe { compiled(rows, layout, rounding, out) }
    }

    unsafe fn pack_along(
        rows: Rows<'_>,
        first_step: usize,
        layout: Panels,
        rounding: Rounding,
        out: &mut [f32],
    ) {
        #[target_feature(enable = "avx2,fma")]
        fn compiled(rows: Rows<'_>, first_step: usize, layout: Panels, rounding: Rounding, out: &mut [f32]) {
            pack_along_body(rows, first_step, layout, rounding, out);
        }
        // SAFETY: the contract of the caller.
        unsafe { compiled(rows, first_step, layout, rounding, out) }
    }
}
