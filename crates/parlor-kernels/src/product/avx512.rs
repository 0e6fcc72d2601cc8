//! The kernels for 512-bit registers: a tile of 14 x 32 in 28 of the 32 registers, two for the right panel's
//! step, one for the left's broadcast value.

use std::arch::x86_64::*;

use super::kernel::{BUNDLE, Kernel, Panels, Rounding, Rows, Tile};
use crate::Write;

const ROWS: usize = 14;
const COLUMNS: usize = 32;

/// f32 panels, FMA.
pub(crate) struct Avx512;

/// Panels of bf16 pairs, `vdpbf16ps`.
pub(crate) struct Avx512Bf16;

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
                    let sum = match $tile.write {
                        Write::Replace => $sums[r][v],
                        Write::Accumulate => _mm512_add_ps($sums[r][v], _mm512_maskz_loadu_ps(mask, to)),
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
                *column = _mm512_load_ps(right.add(16 * v));
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
            _mm_prefetch::<_MM_HINT_ET0>(tile.to.wrapping_add(r * tile.stride + 16 * v).cast());
        }
    }
}

/// Mask of the first `n` of 16 lanes.
#[inline]
fn tail(n: usize) -> __mmask16 {
    if n >= 16 { u16::MAX } else { (1 << n) - 1 }
}

/// To bf16 and back: as `round_to_bf16`.
#[inline]
#[target_feature(enable = "avx512f")]
fn rounded(x: Vector) -> Vector {
    let bits = _mm512_castps_si512(x);
    let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
    let up = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7FFF)));
    let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x, x);
    let bits = _mm512_mask_or_epi32(up, nan, bits, _mm512_set1_epi32(0x0040_0000));
    _mm512_castsi512_ps(_mm512_and_si512(bits, _mm512_set1_epi32(0xFFFF_0000_u32.cast_signed())))
}

/// Rows and columns of 16 x 16 exchanged.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn transpose(rows: &mut [__m512i; 16]) {
    let mut t = *rows;
    for i in 0..8 {
        t[2 * i] = _mm512_unpacklo_epi32(rows[2 * i], rows[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_epi32(rows[2 * i], rows[2 * i + 1]);
    }
    for i in 0..4 {
        rows[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
        rows[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
        rows[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
        rows[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
    }
    for i in 0..4 {
        t[i] = _mm512_shuffle_i32x4::<0x88>(rows[i], rows[4 + i]);
        t[4 + i] = _mm512_shuffle_i32x4::<0xDD>(rows[i], rows[4 + i]);
        t[8 + i] = _mm512_shuffle_i32x4::<0x88>(rows[8 + i], rows[12 + i]);
        t[12 + i] = _mm512_shuffle_i32x4::<0xDD>(rows[8 + i], rows[12 + i]);
    }
    for i in 0..4 {
        rows[i] = _mm512_shuffle_i32x4::<0x88>(t[i], t[8 + i]);
        rows[8 + i] = _mm512_shuffle_i32x4::<0xDD>(t[i], t[8 + i]);
        rows[4 + i] = _mm512_shuffle_i32x4::<0x88>(t[4 + i], t[12 + i]);
        rows[12 + i] = _mm512_shuffle_i32x4::<0xDD>(t[4 + i], t[12 + i]);
    }
}

/// Row `row`'s values `at..at + 16`, zeros where there are none.
#[inline]
#[target_feature(enable = "avx512f")]
fn load(rows: &Rows<'_>, row: usize, at: usize) -> Vector {
    let values = rows.part(row, at, at + 16);
    // SAFETY: the mask leaves out what lies past the values.
    unsafe { _mm512_maskz_loadu_ps(tail(values.len()), values.as_ptr()) }
}

/// # Safety
/// As [`Kernel::pack_across`].
#[target_feature(enable = "avx512f")]
unsafe fn across_f32<const ROUND: bool>(rows: Rows<'_>, layout: Panels, out: &mut [f32]) {
    each_square(
        rows,
        16,
        layout,
        |row, at| {
            let x = load(&rows, row, at);
            _mm512_castps_si512(if ROUND { rounded(x) } else { x })
        },
        bytemuck::cast_slice_mut(out),
    );
}

/// # Safety
/// As [`Kernel::pack_across`].
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn across_bf16(rows: Rows<'_>, layout: Panels, out: &mut [u32]) {
    each_square(
        rows,
        32,
        layout,
        |row, at| {
            let pairs = _mm512_cvtne2ps_pbh(load(&rows, row, at + 16), load(&rows, row, at));
            // SAFETY: both are 512 bits.
            unsafe { std::mem::transmute::<__m512bh, __m512i>(pairs) }
        },
        out,
    );
}

/// Packs squares of 16 lanes by 16 steps: `get(row, at)` is 16 elements along the depth, `depth` values, of a row.
#[inline]
#[target_feature(enable = "avx512f")]
fn each_square(
    rows: Rows<'_>,
    depth: usize,
    layout: Panels,
    get: impl Fn(usize, usize) -> __m512i,
    out: &mut [u32],
) {
    let steps = (rows.width * 16).div_ceil(depth);
    let panels = out.chunks_exact_mut(layout.len()).take(rows.count.div_ceil(layout.used));
    for (index, panel) in panels.enumerate() {
        let end = ((index + 1) * layout.used).min(rows.count);
        for first in (0..layout.stride).step_by(BUNDLE) {
            for (block, panel) in panel[..steps * layout.stride].chunks_mut(16 * layout.stride).enumerate() {
                let mut values = [_mm512_setzero_si512(); 16];
                for (lane, value) in values.iter_mut().enumerate() {
                    let row = index * layout.used + first + lane;
                    *value = if row < end { get(row, block * depth) } else { _mm512_setzero_si512() };
                }
                transpose(&mut values);
                for (step, value) in panel.chunks_exact_mut(layout.stride).zip(values) {
                    let lanes = &mut step[first..first + BUNDLE];
                    // SAFETY: the store fills these lanes.
                    unsafe { _mm512_storeu_si512(lanes.as_mut_ptr().cast(), value) };
                }
            }
        }
    }
}

/// # Safety
/// As [`Kernel::pack_along`].
#[target_feature(enable = "avx512f")]
unsafe fn along_f32<const ROUND: bool>(rows: Rows<'_>, first_step: usize, layout: Panels, out: &mut [f32]) {
    for row in 0..rows.count {
        each_lane(
            &rows,
            first_step + row,
            layout,
            |at, mask| {
                let values = rows.part(row, at, at + 16);
                // SAFETY: the mask leaves out what lies past the values.
                let x = unsafe { _mm512_maskz_loadu_ps(mask & tail(values.len()), values.as_ptr()) };
                _mm512_castps_si512(if ROUND { rounded(x) } else { x })
            },
            bytemuck::cast_slice_mut(out),
        );
    }
}

/// # Safety
/// As [`Kernel::pack_along`].
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn along_bf16(rows: Rows<'_>, first_step: usize, layout: Panels, out: &mut [u32]) {
    for row in (0..rows.count).step_by(2) {
        each_lane(
            &rows,
            first_step + row / 2,
            layout,
            |at, mask| {
                let wide = |row: usize| {
                    let values = rows.part(row, at, at + 16);
                    // SAFETY: the mask leaves out what lies past the values; the types are both 256 bits.
                    unsafe {
                        let x = _mm512_maskz_loadu_ps(mask & tail(values.len()), values.as_ptr());
                        _mm512_cvtepu16_epi32(std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(x)))
                    }
                };
                _mm512_or_si512(wide(row), _mm512_slli_epi32::<16>(wide(row + 1)))
            },
            out,
        );
    }
}

/// Writes one step of all panels: `get(at, mask)` is the elements of lanes `at..at + 16` that `mask` asks for.
#[inline]
#[target_feature(enable = "avx512f")]
fn each_lane(
    rows: &Rows<'_>,
    step: usize,
    layout: Panels,
    get: impl Fn(usize, __mmask16) -> __m512i,
    out: &mut [u32],
) {
    let panels = out.chunks_exact_mut(layout.len()).take(rows.width.div_ceil(layout.used));
    for (index, panel) in panels.enumerate() {
        let step = &mut panel[step * layout.stride..][..layout.stride];
        for (bundle, lanes) in step.chunks_exact_mut(BUNDLE).enumerate() {
            let used = layout.used.saturating_sub(bundle * BUNDLE);
            let value = get(index * layout.used + bundle * BUNDLE, tail(used));
            // SAFETY: the store fills these lanes.
            unsafe { _mm512_storeu_si512(lanes.as_mut_ptr().cast(), value) };
        }
    }
}
