//! The kernels for 512-bit registers: a tile of 14 x 32 in 28 of the 32 registers, two for the right panel's
//! step, one for the left's broadcast value.

mod packing;

use std::arch::x86_64::*;

use half::bf16;

use super::kernel::{BUNDLE, Kernel, Panels, Rounding, Rows, Tile};
use packing::{across_bf16, across_f32, along_bf16, along_f32};

pub(crate) use packing::transpose;

const ROWS: usize = 14;
const COLUMNS: usize = 32;

/// f32 panels, FMA.
pub(crate) struct Avx512;

/// Panels of bf16 pairs, `vdpbf16ps`.
pub(crate) struct Avx512Bf16;

/// Bytes of a right panel that are asked for ahead of those in use: it comes from the second-level cache.
const AHEAD: usize = 1024;

/// One register of 16 f32.
type Vector = __m512;

/// Writes a tile's sums from their registers: a function would take them through memory.
macro_rules! store {
    ($sums:ident, $tile:ident, $rows:ident, $vectors:ident) => {
        let last = tail($tile.columns - 16 * ($vectors - 1));
        for r in 0..$rows {
            for v in 0..$vectors {
                let mask = if v + 1 == $vectors { last } else { u16::MAX };
                // SAFETY: the row lies in the tile; the mask leaves out what lies past its last column.
                unsafe {
                    let to = $tile.to.add(r * $tile.stride + 16 * v);
                    let sum = if $tile.from.is_null() {
                        $sums[r][v]
                    } else {
                        let from = $tile.from.add(r * $tile.stride + 16 * v);
                        _mm512_add_ps($sums[r][v], _mm512_maskz_loadu_ps(mask, from))
                    };
                    _mm512_mask_storeu_ps(to, mask, sum);
                }
            }
        }
    };
}

/// Calls `$tile::<R, V>` for the tile's rows and vectors.
macro_rules! by_size {
    ($tile:ident, $rows:expr, $vectors:expr, $arguments:tt) => {
        match ($rows, $vectors) {
            (14, 2) => by_size!(@ $tile, 14, 2, $arguments),
            (1, 1) => by_size!(@ $tile, 1, 1, $arguments),
            (2, 1) => by_size!(@ $tile, 2, 1, $arguments),
            (3, 1) => by_size!(@ $tile, 3, 1, $arguments),
            (4, 1) => by_size!(@ $tile, 4, 1, $arguments),
            (5, 1) => by_size!(@ $tile, 5, 1, $arguments),
            (6, 1) => by_size!(@ $tile, 6, 1, $arguments),
            (7, 1) => by_size!(@ $tile, 7, 1, $arguments),
            (8, 1) => by_size!(@ $tile, 8, 1, $arguments),
            (9, 1) => by_size!(@ $tile, 9, 1, $arguments),
            (10, 1) => by_size!(@ $tile, 10, 1, $arguments),
            (11, 1) => by_size!(@ $tile, 11, 1, $arguments),
            (12, 1) => by_size!(@ $tile, 12, 1, $arguments),
            (13, 1) => by_size!(@ $tile, 13, 1, $arguments),
            (14, 1) => by_size!(@ $tile, 14, 1, $arguments),
            (1, _) => by_size!(@ $tile, 1, 2, $arguments),
            (2, _) => by_size!(@ $tile, 2, 2, $arguments),
            (3, _) => by_size!(@ $tile, 3, 2, $arguments),
            (4, _) => by_size!(@ $tile, 4, 2, $arguments),
            (5, _) => by_size!(@ $tile, 5, 2, $arguments),
            (6, _) => by_size!(@ $tile, 6, 2, $arguments),
            (7, _) => by_size!(@ $tile, 7, 2, $arguments),
            (8, _) => by_size!(@ $tile, 8, 2, $arguments),
            (9, _) => by_size!(@ $tile, 9, 2, $arguments),
            (10, _) => by_size!(@ $tile, 10, 2, $arguments),
            (11, _) => by_size!(@ $tile, 11, 2, $arguments),
            (12, _) => by_size!(@ $tile, 12, 2, $arguments),
            (13, _) => by_size!(@ $tile, 13, 2, $arguments),
            _ => unreachable!("a tile of more than {ROWS} rows"),
        }
    };
    (@ $tile:ident, $rows:literal, $vectors:literal, ($($argument:expr),*)) => {
        // SAFETY: the contract of `Kernel::tile`.
        unsafe { $tile::<$rows, $vectors>($($argument),*) }
    };
}

impl Kernel for Avx512 {
    type Element = f32;
    const ROWS: usize = ROWS;
    const LEFT: usize = BUNDLE;
    const COLUMNS: usize = COLUMNS;
    const GROUP: usize = 1;

    #[inline]
    unsafe fn tile(steps: usize, left: *const f32, right: *const f32, tile: Tile) {
        by_size!(tile_f32, tile.rows, tile.columns.div_ceil(16), (steps, left, right, tile))
    }

    unsafe fn pack_across(rows: Rows<'_>, layout: Panels, rounding: Rounding, out: &mut [f32]) {
        // SAFETY: the contract of the caller.
        unsafe {
            match rounding {
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
                Rounding::None => along_f32::<false>(rows, first_step, layout, out),
                Rounding::Bf16 => along_f32::<true>(rows, first_step, layout, out),
            }
        }
    }
}

impl Kernel for Avx512Bf16 {
    type Element = u32;
    const ROWS: usize = ROWS;
    const LEFT: usize = BUNDLE;
    const COLUMNS: usize = COLUMNS;
    const GROUP: usize = 2;

    #[inline]
    unsafe fn tile(steps: usize, left: *const u32, right: *const u32, tile: Tile) {
        by_size!(tile_bf16, tile.rows, tile.columns.div_ceil(16), (steps, left, right, tile))
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
#[target_feature(enable = "avx512f")]
unsafe fn tile_f32<const R: usize, const V: usize>(
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
                let at = right.add(16 * v);
                _mm_prefetch::<_MM_HINT_T0>(at.cast::<i8>().wrapping_add(AHEAD));
                *column = _mm512_load_ps(at);
            }
            for (r, sums) in sums.iter_mut().enumerate() {
                let value = _mm512_set1_ps(*left.add(r));
                for v in 0..V {
                    sums[v] = _mm512_fmadd_ps(value, columns[v], sums[v]);
                }
            }
            left = left.add(BUNDLE);
            right = right.add(COLUMNS);
        }
    }
    store!(sums, tile, R, V);
}

/// # Safety
/// As [`Kernel::tile`], with `R` rows and `V` vectors of columns.
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn tile_bf16<const R: usize, const V: usize>(
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

/// Asks for the tile's lines, so that they are near when its sums are ready.
#[inline]
#[target_feature(enable = "avx512f")]
fn prefetch<const R: usize, const V: usize>(tile: Tile) {
    for r in 0..R {
        for v in 0..V {
            let at = r * tile.stride + 16 * v;
            _mm_prefetch::<_MM_HINT_ET0>(tile.to.wrapping_add(at).cast());
            if !tile.from.is_null() && !std::ptr::eq(tile.from, tile.to) {
                _mm_prefetch::<_MM_HINT_T0>(tile.from.wrapping_add(at).cast());
            }
        }
    }
}

/// Mask of the first `n` of 16 lanes.
#[inline]
pub(crate) fn tail(n: usize) -> __mmask16 {
    if n >= 16 { u16::MAX } else { (1 << n) - 1 }
}
