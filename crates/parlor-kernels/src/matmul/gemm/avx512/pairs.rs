//! Products of pairs of bf16: a tile of 14 x 32 in 28 of the 32 registers, two for the right panel's step, one for the left's
//! broadcast pair.

use std::arch::x86_64::*;

use half::bf16;

use super::packing::{self, across_bf16, along_bf16};
use super::{prefetch, store, tail};
use crate::matmul::gemm::kernel::{BUNDLE, Kernel, Panels, Rounding, Rows, Tile};

const ROWS: usize = 14;
const COLUMNS: usize = 32;

/// Panels of bf16 pairs, `vdpbf16ps`.
pub(crate) struct Avx512Bf16;

impl Kernel for Avx512Bf16 {
    type Element = u32;
    const ROWS: usize = ROWS;
    const LEFT: usize = BUNDLE;
    const COLUMNS: usize = COLUMNS;
    const GROUP: usize = 2;
    const NEAR: usize = 8;

    #[inline]
    unsafe fn tile(steps: usize, left: *const u32, right: *const u32, tile: Tile) {
        macro_rules! by_size {
            ($($rows:literal)*) => {
                match (tile.rows, tile.columns.div_ceil(16)) {
                    // SAFETY: the contract of the caller.
                    $(($rows, 1) => unsafe { tile_of::<$rows, 1>(steps, left, right, tile) },
                    ($rows, 2) => unsafe { tile_of::<$rows, 2>(steps, left, right, tile) },)*
                    (rows, _) => unreachable!("a tile of {rows} rows and {} columns", tile.columns),
                }
            };
        }
        by_size!(14 13 12 11 10 9 8 7 6 5 4 3 2 1);
    }

    unsafe fn pack_across(rows: Rows<'_>, layout: Panels, _: Rounding, out: &mut [u32]) {
        // SAFETY: the contract of the caller.
        unsafe { across_bf16(rows, layout, out) }
    }

    unsafe fn pack_along(rows: Rows<'_>, first_step: usize, layout: Panels, _: Rounding, out: &mut [u32]) {
        // SAFETY: the contract of the caller.
        unsafe { along_bf16(rows, first_step, layout, out) }
    }

    const TAKES_BF16: bool = true;

    unsafe fn pack_across_bf16(rows: Rows<'_, bf16>, layout: Panels, out: &mut [u32]) {
        // SAFETY: the contract of the caller.
        unsafe { packing::across_pairs(rows, layout, out) }
    }

    unsafe fn pack_along_bf16(rows: Rows<'_, bf16>, first_step: usize, layout: Panels, out: &mut [u32]) {
        // SAFETY: the contract of the caller.
        unsafe { packing::along_pairs(rows, first_step, layout, out) }
    }
}

/// # Safety
/// As [`Kernel::tile`], with `R` rows and `V` vectors of columns.
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn tile_of<const R: usize, const V: usize>(
    steps: usize,
    mut left: *const u32,
    mut right: *const u32,
    tile: Tile,
) {
    prefetch::<R, V>(tile);
    let mut sums = [[_mm512_setzero_ps(); V]; R];
    for _ in 0..steps {
        // SAFETY: the pointers walk over `steps` steps of their panels. A register of pairs is 512 bits whatever
        // the type is called.
        unsafe {
            let mut columns = [_mm512_setzero_si512(); V];
            for (v, column) in columns.iter_mut().enumerate() {
                *column = _mm512_load_si512(right.add(16 * v).cast());
            }
            for (r, sums) in sums.iter_mut().enumerate() {
                let pair = _mm512_set1_epi32((*left.add(r)).cast_signed());
                for v in 0..V {
                    let (pair, column) = (std::mem::transmute::<__m512i, __m512bh>(pair), columns[v]);
                    sums[v] =
                        _mm512_dpbf16_ps(sums[v], pair, std::mem::transmute::<__m512i, __m512bh>(column));
                }
            }
            left = left.add(BUNDLE);
            right = right.add(COLUMNS);
        }
    }
    store!(sums, tile, R, V);
}
