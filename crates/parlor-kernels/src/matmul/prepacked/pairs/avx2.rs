//! The product of pairs on 256-bit registers, widened to f32: up to 6 rows by 16 outputs, or 3 by 32 while they are few.

use std::arch::x86_64::*;

use super::Tile;
use crate::Write;
use crate::matmul::gemm::tail_of_eight;
use crate::matmul::prepacked::PANEL;
use crate::matmul::prepacked::avx2::broadcast;

/// Rows of a tile, at most: 12 sums, two registers of a panel's step, one of an input's value.
pub(super) const ROWS: usize = 6;
/// Lanes of a register, and registers of a panel's step.
const OCTET: usize = 8;
const OCTETS: usize = PANEL / OCTET;
/// Bytes of a panel that are asked for ahead of those in use.
const AHEAD: usize = 6 << 10;

/// # Safety
/// AVX2 and FMA are there; otherwise as [`Tile`] says.
pub(super) unsafe fn tile(tile: Tile) {
    macro_rules! by_rows {
        ($($rows:literal by $octets:literal),*) => {
            match tile.rows {
                // SAFETY: the contract of the caller.
                $($rows => unsafe { tile_of::<$rows, $octets>(tile) },)*
                _ => unreachable!("a tile of {} rows", tile.rows),
            }
        };
    }
    by_rows!(1 by 4, 2 by 4, 3 by 4, 4 by 2, 5 by 2, 6 by 2);
}

/// `R` rows, `C` octets of outputs at a time.
///
/// # Safety
/// As [`tile`], with `R` rows.
#[target_feature(enable = "avx2,fma")]
unsafe fn tile_of<const R: usize, const C: usize>(tile: Tile) {
    let high = _mm256_set1_epi32(0xFFFF_0000_u32.cast_signed());
    for first in (0..OCTETS).step_by(C).take_while(|first| first * OCTET < tile.columns) {
        let mut left = tile.left;
        let mut right = tile.right.wrapping_add(first * OCTET);
        let mut sums = [[_mm256_setzero_ps(); C]; R];
        for _ in 0..tile.steps {
            // SAFETY: the pointers walk over the steps of the operands; what is asked for ahead need not be there.
            unsafe {
                let even: [__m256; C] = std::array::from_fn(|c| {
                    let at = right.add(c * OCTET);
                    if c % 2 == 0 {
                        _mm_prefetch::<_MM_HINT_T0>(at.cast::<i8>().wrapping_add(AHEAD));
                    }
                    _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_load_si256(at.cast())))
                });
                for (r, sums) in sums.iter_mut().enumerate() {
                    let pair = broadcast(left.add(r * tile.stride).cast());
                    let x = _mm256_castsi256_ps(_mm256_slli_epi32::<16>(pair));
                    for (sum, even) in sums.iter_mut().zip(even) {
                        *sum = _mm256_fmadd_ps(even, x, *sum);
                    }
                }
                let odd: [__m256; C] = std::array::from_fn(|c| masked(right.add(c * OCTET), high));
                for (r, sums) in sums.iter_mut().enumerate() {
                    let pair = broadcast(left.add(r * tile.stride).cast());
                    let x = _mm256_castsi256_ps(_mm256_and_si256(pair, high));
                    for (sum, odd) in sums.iter_mut().zip(odd) {
                        *sum = _mm256_fmadd_ps(odd, x, *sum);
                    }
                }
                left = left.add(1);
                right = right.add(PANEL);
            }
        }
        for (r, sums) in sums.into_iter().enumerate() {
            for (c, sum) in sums.into_iter().enumerate() {
                let column = (first + c) * OCTET;
                // SAFETY: the contract of the caller.
                unsafe { store(&tile, (r, column), sum) };
            }
        }
    }
}

/// The bits of `mask` of 32 bytes. Written out, because the compiler keeps what was loaded before in registers that it does not have.
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

/// Writes eight sums of a row, those that are outputs.
///
/// # Safety
/// AVX2 is there; otherwise as [`Tile`] says.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn store(tile: &Tile, (row, column): (usize, usize), sum: __m256) {
    let mask = tail_of_eight(tile.columns.saturating_sub(column));
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
