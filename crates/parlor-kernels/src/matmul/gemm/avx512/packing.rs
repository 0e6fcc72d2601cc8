//! Packing with 512-bit registers: squares of 16 by 16 elements exchanged where rows run along the depth, whole lines
//! written where they run along the lanes.

use std::arch::x86_64::*;

use half::bf16;

use super::{Vector, tail};
use crate::matmul::gemm::kernel::{BUNDLE, Panels, Rows};

/// Values that are asked for ahead in a row that is read from one end to the other.
const ALONG_A_ROW: usize = 128;
/// The same where a few values of each row are read before the next of each.
const NEXT_PANELS: usize = 48;
/// Steps that are packed across all panels before the next.
const STEPS_AT_ONCE: usize = 8;

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
    _mm_prefetch::<_MM_HINT_T0>(values.as_ptr().wrapping_add(ALONG_A_ROW).cast());
    // SAFETY: the mask leaves out what lies past the values.
    unsafe { _mm512_maskz_loadu_ps(tail(values.len()), values.as_ptr()) }
}

/// # Safety
/// As [`Kernel::pack_across`].
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn across_f32<const ROUND: bool>(rows: Rows<'_>, layout: Panels, out: &mut [f32]) {
    each_square(
        (rows.count, rows.width),
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
pub(super) unsafe fn across_bf16(rows: Rows<'_>, layout: Panels, out: &mut [u32]) {
    each_square(
        (rows.count, rows.width),
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
    (count, width): (usize, usize),
    depth: usize,
    layout: Panels,
    get: impl Fn(usize, usize) -> __m512i,
    out: &mut [u32],
) {
    let steps = (width * 16).div_ceil(depth);
    let panels = out.chunks_exact_mut(layout.len()).take(count.div_ceil(layout.used));
    for (index, panel) in panels.enumerate() {
        let end = ((index + 1) * layout.used).min(count);
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

/// bf16 rows as they are.
///
/// # Safety
/// As [`Kernel::pack_across`](super::Kernel).
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) unsafe fn across_pairs(rows: Rows<'_, bf16>, layout: Panels, out: &mut [u32]) {
    let get = |row, at| {
        let values = rows.part(row, at, at + 32);
        let mask = if values.len() >= 32 { u32::MAX } else { (1 << values.len()) - 1 };
        // SAFETY: the mask leaves out what lies past the values.
        unsafe { _mm512_maskz_loadu_epi16(mask, values.as_ptr().cast()) }
    };
    each_square((rows.count, rows.width), 32, layout, get, out);
}

/// # Safety
/// As [`Kernel::pack_along`](super::Kernel).
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn along_f32<const ROUND: bool>(
    rows: Rows<'_>,
    first_step: usize,
    layout: Panels,
    out: &mut [f32],
) {
    let get = |row, at, mask| {
        let values = rows.part(row, at, at + 16);
        // SAFETY: the mask leaves out what lies past the values.
        let x = unsafe { _mm512_maskz_loadu_ps(mask & tail(values.len()), values.as_ptr()) };
        _mm512_castps_si512(if ROUND { rounded(x) } else { x })
    };
    each_line((rows.count, rows.width), 1, (first_step, layout), get, bytemuck::cast_slice_mut(out));
}

/// bf16 as f32: row `row`'s values `at..at + 16` that `mask` asks for, zeros where there are none.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn widened(rows: &Rows<'_, bf16>, row: usize, at: usize, mask: __mmask16) -> __m512i {
    let values = rows.part(row, at, at + 16);
    _mm_prefetch::<_MM_HINT_T0>(values.as_ptr().wrapping_add(ALONG_A_ROW).cast());
    // SAFETY: the mask leaves out what lies past the values.
    let x = unsafe { _mm256_maskz_loadu_epi16(mask & tail(values.len()), values.as_ptr().cast()) };
    _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(x))
}

/// bf16 rows, widened.
///
/// # Safety
/// As [`Kernel::pack_across`](super::Kernel).
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub(super) unsafe fn across_widened(rows: Rows<'_, bf16>, layout: Panels, out: &mut [f32]) {
    let get = |row, at| widened(&rows, row, at, u16::MAX);
    each_square((rows.count, rows.width), 16, layout, get, bytemuck::cast_slice_mut(out));
}

/// bf16 rows, widened.
///
/// # Safety
/// As [`Kernel::pack_along`](super::Kernel).
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub(super) unsafe fn along_widened(rows: Rows<'_, bf16>, first_step: usize, layout: Panels, out: &mut [f32]) {
    let get = |row, at, mask| widened(&rows, row, at, mask);
    each_line((rows.count, rows.width), 1, (first_step, layout), get, bytemuck::cast_slice_mut(out));
}

/// # Safety
/// As [`Kernel::pack_along`](super::Kernel).
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) unsafe fn along_bf16(rows: Rows<'_>, first_step: usize, layout: Panels, out: &mut [u32]) {
    // Element `i` of the first row, then of the second.
    let twos: [u16; 32] = std::array::from_fn(|i| (i / 2 + i % 2 * 16) as u16);
    // SAFETY: these are 64 bytes.
    let twos = unsafe { _mm512_loadu_si512(twos.as_ptr().cast()) };
    let get = |row, at, mask| {
        let wide = |row| {
            let values = rows.part(row, at, at + 16);
            _mm_prefetch::<_MM_HINT_T0>(values.as_ptr().wrapping_add(NEXT_PANELS).cast());
            // SAFETY: the mask leaves out what lies past the values.
            unsafe { _mm512_maskz_loadu_ps(mask & tail(values.len()), values.as_ptr()) }
        };
        // SAFETY: both are 512 bits.
        let both = unsafe {
            std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(wide(row + 1), wide(row)))
        };
        _mm512_permutexvar_epi16(twos, both)
    };
    each_line((rows.count, rows.width), 2, (first_step, layout), get, out);
}

/// bf16 rows as they are.
///
/// # Safety
/// As [`Kernel::pack_along`](super::Kernel).
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub(super) unsafe fn along_pairs(rows: Rows<'_, bf16>, first_step: usize, layout: Panels, out: &mut [u32]) {
    let get = |row, at, mask| {
        let wide = |row| {
            let values = rows.part(row, at, at + 16);
            _mm_prefetch::<_MM_HINT_T0>(values.as_ptr().wrapping_add(2 * NEXT_PANELS).cast());
            // SAFETY: the mask leaves out what lies past the values.
            let x = unsafe { _mm256_maskz_loadu_epi16(mask & tail(values.len()), values.as_ptr().cast()) };
            _mm512_cvtepu16_epi32(x)
        };
        _mm512_or_si512(wide(row), _mm512_slli_epi32::<16>(wide(row + 1)))
    };
    each_line((rows.count, rows.width), 2, (first_step, layout), get, out);
}

/// Writes the steps that `group` rows make each, panel after panel: `get(row, at, mask)` is the elements of lanes
/// `at..at + 16` that `mask` asks for, of the group that begins with `row`.
#[inline]
#[target_feature(enable = "avx512f")]
fn each_line(
    (count, width): (usize, usize),
    group: usize,
    (first_step, layout): (usize, Panels),
    get: impl Fn(usize, usize, __mmask16) -> __m512i,
    out: &mut [u32],
) {
    let steps = count.div_ceil(group);
    // A few rows at a time across all panels: a row's lines are read once, from one end to the other. More rows than the
    // nearest cache has ways would push each other out where rows are a power of two apart.
    for first in (0..steps).step_by(STEPS_AT_ONCE) {
        let steps = first..(first + STEPS_AT_ONCE).min(steps);
        let panels = out.chunks_exact_mut(layout.len()).take(width.div_ceil(layout.used));
        for (index, panel) in panels.enumerate() {
            let lines = panel[(first_step + first) * layout.stride..].chunks_exact_mut(layout.stride);
            for (line, step) in lines.zip(steps.clone()) {
                for (bundle, lanes) in line.chunks_exact_mut(BUNDLE).enumerate() {
                    let used = layout.used.saturating_sub(bundle * BUNDLE);
                    let value = get(step * group, index * layout.used + bundle * BUNDLE, tail(used));
                    // SAFETY: the store fills these lanes.
                    unsafe { _mm512_storeu_si512(lanes.as_mut_ptr().cast(), value) };
                }
            }
        }
    }
}
