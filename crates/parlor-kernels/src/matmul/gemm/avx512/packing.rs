//! Packing with 512-bit registers: K-contiguous rows in transposed blocks of 16 x 16 elements, MN-contiguous rows as whole registers.

use std::arch::x86_64::*;

use half::bf16;

use crate::cpu::avx512::{lane_mask, transpose_16x16};
use crate::matmul::gemm::microkernel::{PACK_LANES, PanelLayout, StridedRows};

/// Prefetch distance in values, along a row that is read from one end to the other.
const PREFETCH_ALONG_ROW: usize = 128;
/// The same where a few values of each row are read in turn.
const PREFETCH_ACROSS_ROWS: usize = 48;
/// Steps that are packed across all panels before the next.
const STEPS_PER_PASS: usize = 8;

/// As `simd::round_to_bf16`.
#[inline]
#[target_feature(enable = "avx512f")]
fn rounded(x: __m512) -> __m512 {
    let bits = _mm512_castps_si512(x);
    let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
    let up = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7FFF)));
    let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x, x);
    let bits = _mm512_mask_or_epi32(up, nan, bits, _mm512_set1_epi32(0x0040_0000));
    _mm512_castsi512_ps(_mm512_and_si512(bits, _mm512_set1_epi32(0xFFFF_0000_u32.cast_signed())))
}

/// Row `row`'s values `at..at + 16`, zeros where there are none.
#[inline]
#[target_feature(enable = "avx512f")]
fn load(rows: &StridedRows<'_>, row: usize, at: usize) -> __m512 {
    let values = rows.part(row, at, at + 16);
    _mm_prefetch::<_MM_HINT_T0>(values.as_ptr().wrapping_add(PREFETCH_ALONG_ROW).cast());
    // SAFETY: the mask leaves out what lies past the values.
    unsafe { _mm512_maskz_loadu_ps(lane_mask(values.len()), values.as_ptr()) }
}

/// # Safety
/// As `Microkernel::pack_k_contiguous`.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn pack_k_f32<const ROUND: bool>(
    rows: StridedRows<'_>,
    layout: PanelLayout,
    out: &mut [f32],
) {
    transpose_blocks(
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
/// As `Microkernel::pack_k_contiguous`.
#[target_feature(enable = "avx512f,avx512bf16")]
pub(super) unsafe fn pack_k_rounded_pairs(rows: StridedRows<'_>, layout: PanelLayout, out: &mut [u32]) {
    transpose_blocks(
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

/// Packs K-contiguous rows, 16 lanes by 16 steps at a time: `get(row, at)` loads 16 elements, `depth` values, of a row.
#[inline]
#[target_feature(enable = "avx512f")]
fn transpose_blocks(
    (count, width): (usize, usize),
    depth: usize,
    layout: PanelLayout,
    get: impl Fn(usize, usize) -> __m512i,
    out: &mut [u32],
) {
    let steps = (width * 16).div_ceil(depth);
    let panels = out.chunks_exact_mut(layout.len()).take(count.div_ceil(layout.used));
    for (index, panel) in panels.enumerate() {
        let end = ((index + 1) * layout.used).min(count);
        for first in (0..layout.stride).step_by(PACK_LANES) {
            for (block, panel) in panel[..steps * layout.stride].chunks_mut(16 * layout.stride).enumerate() {
                let mut values = [_mm512_setzero_si512(); 16];
                for (lane, value) in values.iter_mut().enumerate() {
                    let row = index * layout.used + first + lane;
                    *value = if row < end { get(row, block * depth) } else { _mm512_setzero_si512() };
                }
                transpose_16x16(&mut values);
                for (step, value) in panel.chunks_exact_mut(layout.stride).zip(values) {
                    let lanes = &mut step[first..first + PACK_LANES];
                    // SAFETY: the store fills these lanes.
                    unsafe { _mm512_storeu_si512(lanes.as_mut_ptr().cast(), value) };
                }
            }
        }
    }
}

/// Packs bf16 rows as pairs.
///
/// # Safety
/// As `Microkernel::pack_k_contiguous`.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) unsafe fn pack_k_pairs(rows: StridedRows<'_, bf16>, layout: PanelLayout, out: &mut [u32]) {
    let get = |row, at| {
        let values = rows.part(row, at, at + 32);
        let mask = if values.len() >= 32 { u32::MAX } else { (1 << values.len()) - 1 };
        // SAFETY: the mask leaves out what lies past the values.
        unsafe { _mm512_maskz_loadu_epi16(mask, values.as_ptr().cast()) }
    };
    transpose_blocks((rows.count, rows.width), 32, layout, get, out);
}

/// # Safety
/// As `Microkernel::pack_mn_contiguous`.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn pack_mn_f32<const ROUND: bool>(
    rows: StridedRows<'_>,
    first_step: usize,
    layout: PanelLayout,
    out: &mut [f32],
) {
    let get = |row, at, mask| {
        let values = rows.part(row, at, at + 16);
        // SAFETY: the mask leaves out what lies past the values.
        let x = unsafe { _mm512_maskz_loadu_ps(mask & lane_mask(values.len()), values.as_ptr()) };
        _mm512_castps_si512(if ROUND { rounded(x) } else { x })
    };
    copy_lines((rows.count, rows.width), 1, (first_step, layout), get, bytemuck::cast_slice_mut(out));
}

/// Row `row`'s bf16 values `at..at + 16` under `mask`, widened; zeros where there are none.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn widened(rows: &StridedRows<'_, bf16>, row: usize, at: usize, mask: __mmask16) -> __m512i {
    let values = rows.part(row, at, at + 16);
    _mm_prefetch::<_MM_HINT_T0>(values.as_ptr().wrapping_add(PREFETCH_ALONG_ROW).cast());
    // SAFETY: the mask leaves out what lies past the values.
    let x = unsafe { _mm256_maskz_loadu_epi16(mask & lane_mask(values.len()), values.as_ptr().cast()) };
    _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(x))
}

/// Packs bf16 rows, widened to f32.
///
/// # Safety
/// As `Microkernel::pack_k_contiguous`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub(super) unsafe fn pack_k_widened(rows: StridedRows<'_, bf16>, layout: PanelLayout, out: &mut [f32]) {
    let get = |row, at| widened(&rows, row, at, u16::MAX);
    transpose_blocks((rows.count, rows.width), 16, layout, get, bytemuck::cast_slice_mut(out));
}

/// Packs bf16 rows, widened to f32.
///
/// # Safety
/// As `Microkernel::pack_mn_contiguous`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub(super) unsafe fn pack_mn_widened(
    rows: StridedRows<'_, bf16>,
    first_step: usize,
    layout: PanelLayout,
    out: &mut [f32],
) {
    let get = |row, at, mask| widened(&rows, row, at, mask);
    copy_lines((rows.count, rows.width), 1, (first_step, layout), get, bytemuck::cast_slice_mut(out));
}

/// # Safety
/// As `Microkernel::pack_mn_contiguous`.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) unsafe fn pack_mn_rounded_pairs(
    rows: StridedRows<'_>,
    first_step: usize,
    layout: PanelLayout,
    out: &mut [u32],
) {
    // Interleaves element `i` of the first row with element `i` of the second.
    let twos: [u16; 32] = std::array::from_fn(|i| (i / 2 + i % 2 * 16) as u16);
    // SAFETY: these are 64 bytes.
    let twos = unsafe { _mm512_loadu_si512(twos.as_ptr().cast()) };
    let get = |row, at, mask| {
        let wide = |row| {
            let values = rows.part(row, at, at + 16);
            _mm_prefetch::<_MM_HINT_T0>(values.as_ptr().wrapping_add(PREFETCH_ACROSS_ROWS).cast());
            // SAFETY: the mask leaves out what lies past the values.
            unsafe { _mm512_maskz_loadu_ps(mask & lane_mask(values.len()), values.as_ptr()) }
        };
        // SAFETY: both are 512 bits.
        let both = unsafe {
            std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(wide(row + 1), wide(row)))
        };
        _mm512_permutexvar_epi16(twos, both)
    };
    copy_lines((rows.count, rows.width), 2, (first_step, layout), get, out);
}

/// Packs bf16 rows as pairs.
///
/// # Safety
/// As `Microkernel::pack_mn_contiguous`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub(super) unsafe fn pack_mn_pairs(
    rows: StridedRows<'_, bf16>,
    first_step: usize,
    layout: PanelLayout,
    out: &mut [u32],
) {
    let get = |row, at, mask| {
        let wide = |row| {
            let values = rows.part(row, at, at + 16);
            _mm_prefetch::<_MM_HINT_T0>(values.as_ptr().wrapping_add(2 * PREFETCH_ACROSS_ROWS).cast());
            // SAFETY: the mask leaves out what lies past the values.
            let x =
                unsafe { _mm256_maskz_loadu_epi16(mask & lane_mask(values.len()), values.as_ptr().cast()) };
            _mm512_cvtepu16_epi32(x)
        };
        _mm512_or_si512(wide(row), _mm512_slli_epi32::<16>(wide(row + 1)))
    };
    copy_lines((rows.count, rows.width), 2, (first_step, layout), get, out);
}

/// Packs MN-contiguous rows, `group` rows to a step of all panels: `get(row, at, mask)` loads lanes `at..at + 16`, under `mask`, of the
/// group that begins with `row`.
#[inline]
#[target_feature(enable = "avx512f")]
fn copy_lines(
    (count, width): (usize, usize),
    group: usize,
    (first_step, layout): (usize, PanelLayout),
    get: impl Fn(usize, usize, __mmask16) -> __m512i,
    out: &mut [u32],
) {
    let steps = count.div_ceil(group);
    // A few rows at a time across all panels: each row is read once, from one end to the other. More rows than L1 has ways would
    // evict each other where rows are a power of two apart.
    for first in (0..steps).step_by(STEPS_PER_PASS) {
        let steps = first..(first + STEPS_PER_PASS).min(steps);
        let panels = out.chunks_exact_mut(layout.len()).take(width.div_ceil(layout.used));
        for (index, panel) in panels.enumerate() {
            let lines = panel[(first_step + first) * layout.stride..].chunks_exact_mut(layout.stride);
            for (line, step) in lines.zip(steps.clone()) {
                for (bundle, lanes) in line.chunks_exact_mut(PACK_LANES).enumerate() {
                    let used = layout.used.saturating_sub(bundle * PACK_LANES);
                    let value = get(step * group, index * layout.used + bundle * PACK_LANES, lane_mask(used));
                    // SAFETY: the store fills these lanes.
                    unsafe { _mm512_storeu_si512(lanes.as_mut_ptr().cast(), value) };
                }
            }
        }
    }
}
