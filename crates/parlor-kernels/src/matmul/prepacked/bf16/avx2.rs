//! The bf16 kernel with AVX2, in f32: up to 6 rows by 16 outputs, or 3 by 32.

use std::arch::x86_64::*;

use super::tile::Bf16Tile;
use crate::cpu::avx2::{LANES, broadcast_dword, lane_mask};
use crate::matmul::write::Write;
use crate::memory::prepacked::layout::PANEL;

/// Rows of a tile, at most: 12 accumulators, two registers of a panel's step, one broadcast value.
pub(crate) const MR: usize = 6;
/// Registers of a panel's step.
const VECTORS: usize = PANEL / LANES;
/// Prefetch distance in a panel, in bytes.
const PREFETCH_BYTES: usize = 6 << 10;

/// # Safety
/// AVX2 and FMA are there; otherwise as [`Bf16Tile`] says.
pub(crate) unsafe fn tile(tile: Bf16Tile) {
    macro_rules! by_rows {
        ($($rows:literal by $vectors:literal),*) => {
            match tile.rows {
                // SAFETY: the contract of the caller.
                $($rows => unsafe { tile_of::<$rows, $vectors>(tile) },)*
                _ => unreachable!("a tile of {} rows", tile.rows),
            }
        };
    }
    by_rows!(1 by 4, 2 by 4, 3 by 4, 4 by 2, 5 by 2, 6 by 2);
}

/// `R` rows by `C` vectors of outputs at a time.
///
/// # Safety
/// As [`tile`], with `R` rows.
#[target_feature(enable = "avx2,fma")]
unsafe fn tile_of<const R: usize, const C: usize>(tile: Bf16Tile) {
    let high = _mm256_set1_epi32(0xFFFF_0000_u32.cast_signed());
    for first in (0..VECTORS).step_by(C).take_while(|first| first * LANES < tile.columns) {
        let mut x_row = tile.x;
        let mut panel = tile.panel.wrapping_add(first * LANES);
        let mut sums = [[_mm256_setzero_ps(); C]; R];
        for _ in 0..tile.steps {
            // SAFETY: the pointers walk over the steps of the operands; a prefetch may miss.
            unsafe {
                let even: [__m256; C] = std::array::from_fn(|c| {
                    let at = panel.add(c * LANES);
                    if c % 2 == 0 {
                        _mm_prefetch::<_MM_HINT_T0>(at.cast::<i8>().wrapping_add(PREFETCH_BYTES));
                    }
                    _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_load_si256(at.cast())))
                });
                for (r, sums) in sums.iter_mut().enumerate() {
                    let pair = broadcast_dword(x_row.add(r * tile.stride).cast());
                    let x = _mm256_castsi256_ps(_mm256_slli_epi32::<16>(pair));
                    for (sum, even) in sums.iter_mut().zip(even) {
                        *sum = _mm256_fmadd_ps(even, x, *sum);
                    }
                }
                let odd: [__m256; C] = std::array::from_fn(|c| masked(panel.add(c * LANES), high));
                for (r, sums) in sums.iter_mut().enumerate() {
                    let pair = broadcast_dword(x_row.add(r * tile.stride).cast());
                    let x = _mm256_castsi256_ps(_mm256_and_si256(pair, high));
                    for (sum, odd) in sums.iter_mut().zip(odd) {
                        *sum = _mm256_fmadd_ps(odd, x, *sum);
                    }
                }
                x_row = x_row.add(1);
                panel = panel.add(PANEL);
            }
        }
        for (r, sums) in sums.into_iter().enumerate() {
            for (c, sum) in sums.into_iter().enumerate() {
                let column = (first + c) * LANES;
                // SAFETY: the contract of the caller.
                unsafe { store(&tile, (r, column), sum) };
            }
        }
    }
}

/// Loads 32 bytes under a bit mask. Inline assembly, because the compiler reuses the earlier load and spills it.
///
/// # Safety
/// AVX2 is there, and the bytes.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn masked(at: *const u32, mask: __m256i) -> __m256 {
    let x;
    // SAFETY: the instruction reads 32 bytes.
    unsafe {
        std::arch::asm!(
            "vpand {x}, {mask}, ymmword ptr [{at}]",
            x = out(ymm_reg) x,
            mask = in(ymm_reg) mask,
            at = in(reg) at,
            options(readonly, nostack, preserves_flags),
        );
    }
    x
}

/// Stores eight sums of a row, those that are outputs.
///
/// # Safety
/// AVX2 is there; otherwise as [`Bf16Tile`] says.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn store(tile: &Bf16Tile, (row, column): (usize, usize), sum: __m256) {
    let mask = lane_mask(tile.columns.saturating_sub(column));
    let to = tile.to.wrapping_add(row * tile.outputs + column);
    // SAFETY: the mask leaves out what lies past the tile's columns.
    unsafe {
        let mut sum = sum;
        if !tile.bias.is_null() {
            sum = _mm256_add_ps(sum, _mm256_maskload_ps(tile.bias.wrapping_add(column), mask));
        }
        if tile.write == Write::Accumulate {
            sum = _mm256_add_ps(_mm256_maskload_ps(to, mask), sum);
        }
        _mm256_maskstore_ps(to, mask, sum);
    }
}
