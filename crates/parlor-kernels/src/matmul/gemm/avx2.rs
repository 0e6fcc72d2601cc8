//! The kernel for 256-bit registers with FMA: a tile of 6 x 16 in 12 of the 16 registers, two for the right panel's step, one for
//! the left's broadcast value.

mod packing;

use std::arch::x86_64::*;

use half::bf16;

use super::kernel::{Kernel, Panels, Rounding, Rows, Tile};
use packing::{across, along};

const ROWS: usize = 6;
const COLUMNS: usize = 16;
/// Lanes of a register, and registers of a panel's step.
const OCTET: usize = 8;
const OCTETS: usize = COLUMNS / OCTET;

/// f32 panels, FMA.
pub(crate) struct Avx2;

impl Kernel for Avx2 {
    type Element = f32;
    const ROWS: usize = ROWS;
    const LEFT: usize = OCTET;
    const COLUMNS: usize = COLUMNS;
    const GROUP: usize = 1;
    const NEAR: usize = 8;

    #[inline]
    unsafe fn tile(steps: usize, left: *const f32, right: *const f32, tile: Tile) {
        macro_rules! by_rows {
            ($($rows:literal)*) => {
                match tile.rows {
                    // SAFETY: the contract of the caller.
                    $($rows => unsafe { tile_of::<$rows>(steps, left, right, tile) },)*
                    _ => unreachable!("a tile of more than {ROWS} rows"),
                }
            };
        }
        by_rows!(1 2 3 4 5 6);
    }

    unsafe fn pack_across(rows: Rows<'_>, layout: Panels, rounding: Rounding, out: &mut [f32]) {
        // SAFETY: the contract of the caller.
        unsafe {
            match rounding {
                Rounding::None => across::<false, _>(rows, layout, out),
                Rounding::Bf16 => across::<true, _>(rows, layout, out),
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
                Rounding::None => along::<false, _>(rows, first_step, layout, out),
                Rounding::Bf16 => along::<true, _>(rows, first_step, layout, out),
            }
        }
    }

    const TAKES_BF16: bool = true;

    unsafe fn pack_across_bf16(rows: Rows<'_, bf16>, layout: Panels, out: &mut [f32]) {
        // SAFETY: the contract of the caller.
        unsafe { across::<false, _>(rows, layout, out) }
    }

    unsafe fn pack_along_bf16(rows: Rows<'_, bf16>, first_step: usize, layout: Panels, out: &mut [f32]) {
        // SAFETY: the contract of the caller.
        unsafe { along::<false, _>(rows, first_step, layout, out) }
    }
}

/// # Safety
/// As [`Kernel::tile`], with `R` rows.
#[target_feature(enable = "avx2,fma")]
unsafe fn tile_of<const R: usize>(steps: usize, mut left: *const f32, mut right: *const f32, tile: Tile) {
    let mut sums = [[_mm256_setzero_ps(); OCTETS]; R];
    for r in 0..R {
        // One line or two; what is asked for need not be there.
        let at = tile.to.wrapping_add(r * tile.stride);
        _mm_prefetch::<_MM_HINT_ET0>(at.cast());
        _mm_prefetch::<_MM_HINT_ET0>(at.wrapping_add(COLUMNS - 1).cast());
    }
    for _ in 0..steps {
        // SAFETY: the pointers walk over `steps` steps of their panels.
        unsafe {
            let columns: [__m256; OCTETS] = std::array::from_fn(|v| _mm256_load_ps(right.add(v * OCTET)));
            for (r, sums) in sums.iter_mut().enumerate() {
                let value = _mm256_broadcast_ss(&*left.add(r));
                for (sum, columns) in sums.iter_mut().zip(columns) {
                    *sum = _mm256_fmadd_ps(value, columns, *sum);
                }
            }
            left = left.add(OCTET);
            right = right.add(COLUMNS);
        }
    }
    for v in 0..OCTETS {
        let mask = tail_of_eight(tile.columns.saturating_sub(v * OCTET));
        for (r, sums) in sums.iter().enumerate() {
            let at = r * tile.stride + v * OCTET;
            // SAFETY: the row lies in the tile; the mask leaves out what lies past its last column.
            unsafe {
                let sum = match tile.from.is_null() {
                    true => sums[v],
                    false => _mm256_add_ps(sums[v], _mm256_maskload_ps(tile.from.wrapping_add(at), mask)),
                };
                _mm256_maskstore_ps(tile.to.wrapping_add(at), mask, sum);
            }
        }
    }
}

/// Mask of the first `n` of eight lanes.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn tail_of_eight(n: usize) -> __m256i {
    _mm256_cmpgt_epi32(_mm256_set1_epi32(n.min(OCTET) as i32), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7))
}
