//! Products of f32: a tile of 6 x 64 in 24 of the 32 registers, four for the right panel's step, one for the left's broadcast
//! value.
//!
//! A step of 24 multiply-adds takes 10 loads. A taller tile (14 x 32: 28 and 16) reads the right panel less often, but
//! where two programs share a core, as on most rented machines, loads and all that goes with them are what runs out first, and its
//! left panel is twice as large as what the nearest cache keeps beside a right panel that streams past.

use std::arch::x86_64::*;

use half::bf16;

use super::packing::{across_f32, across_widened, along_f32, along_widened};
use super::{prefetch, store, tail};
use crate::matmul::gemm::avx2::Avx2;
use crate::matmul::gemm::kernel::{Kernel, Panels, Rounding, Rows, Tile};

const ROWS: usize = 6;
const VECTORS: usize = 4;
const COLUMNS: usize = 16 * VECTORS;
/// Lanes of a left panel.
const LEFT: usize = Avx2::LEFT;

/// f32 panels, FMA.
pub(crate) struct Avx512;

impl Kernel for Avx512 {
    type Element = f32;
    const ROWS: usize = ROWS;
    const LEFT: usize = LEFT;
    const COLUMNS: usize = COLUMNS;
    const GROUP: usize = 1;
    const NEAR: usize = 4;

    #[inline]
    unsafe fn tile(steps: usize, left: *const f32, right: *const f32, tile: Tile) {
        macro_rules! by_size {
            ($($rows:literal)*) => {
                match (tile.rows, tile.columns.div_ceil(16)) {
                    // SAFETY: the contract of the caller.
                    $(($rows, 1) => unsafe { tile_of::<$rows, 1>(steps, left, right, tile) },
                    ($rows, 2) => unsafe { tile_of::<$rows, 2>(steps, left, right, tile) },
                    ($rows, 3) => unsafe { tile_of::<$rows, 3>(steps, left, right, tile) },
                    ($rows, VECTORS) => unsafe { tile_of::<$rows, VECTORS>(steps, left, right, tile) },)*
                    (rows, _) => unreachable!("a tile of {rows} rows and {} columns", tile.columns),
                }
            };
        }
        by_size!(6 5 4 3 2 1);
    }

    // Left panels, and bf16, are packed as for 256-bit registers, which are there too.

    unsafe fn pack_across(rows: Rows<'_>, layout: Panels, rounding: Rounding, out: &mut [f32]) {
        // SAFETY: the contract of the caller.
        unsafe {
            match rounding {
                _ if layout.stride == LEFT => Avx2::pack_across(rows, layout, rounding, out),
                Rounding::None => across_f32::<false>(rows, layout, out),
                Rounding::Bf16 => across_f32::<true>(rows, layout, out),
            }
        }
    }

    unsafe fn pack_along(
        rows: Rows<'_>,
        first_step: usize,
        layout: Panels,
        rounding: Rounding,
        out: &mut [f32],
    ) {
        // SAFETY: the contract of the caller.
        unsafe {
            match rounding {
                _ if layout.stride == LEFT => Avx2::pack_along(rows, first_step, layout, rounding, out),
                Rounding::None => along_f32::<false>(rows, first_step, layout, out),
                Rounding::Bf16 => along_f32::<true>(rows, first_step, layout, out),
            }
        }
    }

    const TAKES_BF16: bool = true;

    unsafe fn pack_across_bf16(rows: Rows<'_, bf16>, layout: Panels, out: &mut [f32]) {
        // SAFETY: the contract of the caller.
        unsafe {
            match layout.stride == LEFT {
                true => Avx2::pack_across_bf16(rows, layout, out),
                false => across_widened(rows, layout, out),
            }
        }
    }

    unsafe fn pack_along_bf16(rows: Rows<'_, bf16>, first_step: usize, layout: Panels, out: &mut [f32]) {
        // SAFETY: the contract of the caller.
        unsafe {
            match layout.stride == LEFT {
                true => Avx2::pack_along_bf16(rows, first_step, layout, out),
                false => along_widened(rows, first_step, layout, out),
            }
        }
    }
}

/// # Safety
/// As [`Kernel::tile`], with `R` rows and `V` vectors of columns.
#[target_feature(enable = "avx512f")]
unsafe fn tile_of<const R: usize, const V: usize>(
    steps: usize,
    mut left: *const f32,
    mut right: *const f32,
    tile: Tile,
) {
    prefetch::<R, V>(tile);
    let mut sums = [[_mm512_setzero_ps(); V]; R];
    for _ in 0..steps {
        // SAFETY: the pointers walk over `steps` steps of their panels.
        unsafe {
            let mut columns = [_mm512_setzero_ps(); V];
            for (v, column) in columns.iter_mut().enumerate() {
                *column = _mm512_load_ps(right.add(16 * v));
            }
            for (r, sums) in sums.iter_mut().enumerate() {
                let value = _mm512_set1_ps(*left.add(r));
                for v in 0..V {
                    sums[v] = _mm512_fmadd_ps(value, columns[v], sums[v]);
                }
            }
            left = left.add(LEFT);
            right = right.add(COLUMNS);
        }
    }
    store!(sums, tile, R, V);
}
