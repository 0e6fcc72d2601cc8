//! The bf16 kernels with AVX-512: by `vpdpbf16ps`, or in f32 where that is faster.

use std::arch::x86_64::*;

use super::tile::Bf16Tile;
use crate::cpu::avx512::lane_mask;
use crate::matmul::prepacked::broadcast_multiply::multiply_add_broadcast;
use crate::matmul::write::Write;

/// Rows of a tile, at most: 28 accumulators, two registers of a panel's step, one broadcast pair.
pub(crate) const MR: usize = 14;
/// The same in f32: a step of the panel is four registers.
pub(crate) const MR_WIDENED: usize = 12;
/// Prefetch distance in a panel, in bytes.
const PREFETCH_BYTES: usize = 6 << 10;

/// Rounds a row to bf16 pairs.
///
/// # Safety
/// AVX-512F and BF16 are there.
#[target_feature(enable = "avx512f,avx512bf16")]
pub(crate) unsafe fn round(x: &[f32], pairs: &mut [u32]) {
    let mut at = 0;
    while at < x.len() {
        let left = x.len() - at;
        let (low, high) = (lane_mask(left), lane_mask(left.saturating_sub(16)));
        // SAFETY: the masks leave out what lies past the row; half as many pairs begin there.
        unsafe {
            let from = x.as_ptr().add(at);
            let halves =
                (_mm512_maskz_loadu_ps(high, from.wrapping_add(16)), _mm512_maskz_loadu_ps(low, from));
            let both = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(halves.0, halves.1));
            _mm512_mask_storeu_epi32(
                pairs.as_mut_ptr().add(at / 2).cast(),
                lane_mask(left.div_ceil(2)),
                both,
            );
        }
        at += 32;
    }
}

/// Calls `$run` with the tile's number of rows, one of those that are listed, as its parameter.
macro_rules! by_rows {
    ($run:ident, $tile:ident, $($rows:literal)*) => {
        match $tile.rows {
            // SAFETY: the contract of the caller.
            $($rows => unsafe { $run::<$rows>($tile) },)*
            _ => unreachable!("a tile of {} rows", $tile.rows),
        }
    };
}

/// Base addresses, from which all rows are up to two strides away.
const BASES: usize = MR.div_ceil(3);

/// Multiplies the panel by four bytes of each row.
macro_rules! by_row {
    ($fetch:literal $multiply:literal, $sums:ident, $panel:ident, ($rows:ident, $stride:ident), $($row:literal)*) => {
        $(if let Some(sums) = $sums.get_mut($row) {
            multiply_add_broadcast!($fetch $multiply, sums, $panel, ($rows[$row / 3], $stride, $row % 3));
        })*
    };
}

/// # Safety
/// AVX-512F and BF16 are there; otherwise as [`Bf16Tile`] says.
pub(crate) unsafe fn tile(tile: Bf16Tile) {
    by_rows!(tile_of, tile, 1 2 3 4 5 6 7 8 9 10 11 12 13 14);
}

/// # Safety
/// As [`tile`], with `R` rows.
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn tile_of<const R: usize>(tile: Bf16Tile) {
    let Bf16Tile { x, stride, panel: mut pairs_of_panel, .. } = tile;
    let stride = stride * size_of::<u32>();
    let mut rows: [*const u32; BASES] = std::array::from_fn(|base| x.wrapping_byte_add(3 * base * stride));
    let mut sums = [[_mm512_setzero_ps(); 2]; R];
    for _ in 0..tile.steps {
        // SAFETY: the pointers walk over the steps of the operands; a prefetch may miss.
        unsafe {
            let mut panel = [_mm512_setzero_si512(); 2];
            for (v, panel) in panel.iter_mut().enumerate() {
                let at = pairs_of_panel.add(16 * v);
                _mm_prefetch::<_MM_HINT_T0>(at.cast::<i8>().wrapping_add(PREFETCH_BYTES));
                *panel = _mm512_load_si512(at.cast());
            }
            by_row!("vpbroadcastd" "vdpbf16ps", sums, panel, (rows, stride), 0 1 2 3 4 5 6 7 8 9 10 11 12 13);
            rows = rows.map(|row| row.wrapping_add(1));
            pairs_of_panel = pairs_of_panel.add(32);
        }
    }
    // SAFETY: the contract of the caller.
    unsafe { store(tile, sums) };
}

/// # Safety
/// AVX-512F is there; otherwise as [`Bf16Tile`] says.
pub(crate) unsafe fn tile_widened(tile: Bf16Tile) {
    by_rows!(widened_of, tile, 1 2 3 4 5 6 7 8 9 10 11 12);
}

/// # Safety
/// As [`tile_widened`], with `R` rows.
#[target_feature(enable = "avx512f")]
unsafe fn widened_of<const R: usize>(tile: Bf16Tile) {
    let Bf16Tile { x, stride, panel: mut pairs_of_panel, .. } = tile;
    let stride = stride * size_of::<f32>();
    let mut rows: [*const u32; BASES] = std::array::from_fn(|base| x.wrapping_byte_add(3 * base * stride));
    let high = _mm512_set1_epi32(0xFFFF_0000_u32.cast_signed());
    let mut sums = [[_mm512_setzero_ps(); 2]; R];
    for _ in 0..tile.steps {
        // SAFETY: the pointers walk over the steps of the operands; a prefetch may miss.
        unsafe {
            let [mut even, mut odd] = [[_mm512_setzero_si512(); 2]; 2];
            for (v, (even, odd)) in even.iter_mut().zip(&mut odd).enumerate() {
                let at = pairs_of_panel.add(16 * v);
                _mm_prefetch::<_MM_HINT_T0>(at.cast::<i8>().wrapping_add(PREFETCH_BYTES));
                let pairs = _mm512_load_si512(at.cast());
                *even = _mm512_slli_epi32::<16>(pairs);
                *odd = _mm512_and_si512(pairs, high);
            }
            for panel in [even, odd] {
                by_row!("vbroadcastss" "vfmadd231ps", sums, panel, (rows, stride), 0 1 2 3 4 5 6 7 8 9 10 11);
                rows = rows.map(|row| row.wrapping_add(1));
            }
            pairs_of_panel = pairs_of_panel.add(32);
        }
    }
    // SAFETY: the contract of the caller.
    unsafe { store(tile, sums) };
}

/// Stores a tile's sums.
///
/// # Safety
/// AVX-512F is there; otherwise as [`Bf16Tile`] says.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn store<const R: usize>(tile: Bf16Tile, sums: [[__m512; 2]; R]) {
    for v in 0..2 {
        let mask = lane_mask(tile.columns.saturating_sub(16 * v));
        // SAFETY: the mask leaves out what lies past the tile's columns.
        unsafe {
            let bias = if tile.bias.is_null() {
                _mm512_setzero_ps()
            } else {
                _mm512_maskz_loadu_ps(mask, tile.bias.wrapping_add(16 * v))
            };
            for (r, sums) in sums.iter().enumerate() {
                let to = tile.to.wrapping_add(r * tile.outputs + 16 * v);
                let sum = _mm512_add_ps(sums[v], bias);
                let sum = match tile.write {
                    Write::Replace => sum,
                    Write::Accumulate => _mm512_add_ps(_mm512_maskz_loadu_ps(mask, to), sum),
                };
                _mm512_mask_storeu_ps(to, mask, sum);
            }
        }
    }
}
