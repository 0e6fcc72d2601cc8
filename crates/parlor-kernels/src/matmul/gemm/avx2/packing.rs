//! Packing with 256-bit registers: K-contiguous rows in transposed blocks of 8 x 8 elements, MN-contiguous rows as whole registers.

use std::arch::x86_64::*;

use half::bf16;

use crate::cpu::avx2::{LANES, lane_mask};
use crate::matmul::gemm::microkernel::{PanelLayout, StridedRows};

/// Prefetch distance in values, along a row that is read from one end to the other.
const PREFETCH_ALONG_ROW: usize = 128;
/// Steps that are packed across all panels before the next.
const STEPS_PER_PASS: usize = 8;

/// As `simd::round_to_bf16`.
#[inline]
#[target_feature(enable = "avx2")]
fn rounded(x: __m256) -> __m256 {
    let bits = _mm256_castps_si256(x);
    let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
    let up = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7FFF)));
    let quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x0040_0000));
    let nan = _mm256_cmp_ps::<_CMP_UNORD_Q>(x, x);
    let bits = _mm256_blendv_ps(_mm256_castsi256_ps(up), _mm256_castsi256_ps(quiet), nan);
    _mm256_and_ps(bits, _mm256_castsi256_ps(_mm256_set1_epi32(0xFFFF_0000_u32.cast_signed())))
}

/// Element type of a row.
pub(super) trait LoadVector: Sized {
    /// The first eight of `values` in f32, zeros where there are fewer, rounded to bf16 if `ROUND`.
    ///
    /// # Safety
    /// AVX2 is there.
    unsafe fn load<const ROUND: bool>(values: &[Self]) -> __m256;
}

impl LoadVector for f32 {
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn load<const ROUND: bool>(values: &[f32]) -> __m256 {
        // SAFETY: all eight are there, or the mask leaves out what lies past the values.
        let x = unsafe {
            match values.len() >= LANES {
                true => _mm256_loadu_ps(values.as_ptr()),
                false => _mm256_maskload_ps(values.as_ptr(), lane_mask(values.len())),
            }
        };
        if ROUND { rounded(x) } else { x }
    }
}

impl LoadVector for bf16 {
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn load<const ROUND: bool>(values: &[bf16]) -> __m256 {
        let mut whole = [bf16::ZERO; LANES];
        let from = match values.len() >= LANES {
            true => values.as_ptr(),
            false => {
                whole[..values.len()].copy_from_slice(values);
                whole.as_ptr()
            }
        };
        // SAFETY: eight are there.
        let x = unsafe { _mm_loadu_si128(from.cast()) };
        _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(x)))
    }
}

/// StridedRows and columns of 8 x 8 exchanged.
#[inline]
#[target_feature(enable = "avx2")]
fn transpose(rows: [__m256; 8]) -> [__m256; 8] {
    let [a, b, c, d, e, f, g, h] = rows;
    let pairs = [
        _mm256_unpacklo_ps(a, b),
        _mm256_unpackhi_ps(a, b),
        _mm256_unpacklo_ps(c, d),
        _mm256_unpackhi_ps(c, d),
        _mm256_unpacklo_ps(e, f),
        _mm256_unpackhi_ps(e, f),
        _mm256_unpacklo_ps(g, h),
        _mm256_unpackhi_ps(g, h),
    ];
    let fours = |low: usize| {
        let (x, y) = (pairs[low], pairs[low + 2]);
        let (z, w) = (pairs[low + 1], pairs[low + 3]);
        [
            _mm256_shuffle_ps::<0x44>(x, y),
            _mm256_shuffle_ps::<0xEE>(x, y),
            _mm256_shuffle_ps::<0x44>(z, w),
            _mm256_shuffle_ps::<0xEE>(z, w),
        ]
    };
    let (upper, lower) = (fours(0), fours(4));
    std::array::from_fn(|i| match i < 4 {
        true => _mm256_permute2f128_ps::<0x20>(upper[i % 4], lower[i % 4]),
        false => _mm256_permute2f128_ps::<0x31>(upper[i % 4], lower[i % 4]),
    })
}

/// Packs K-contiguous rows, 8 lanes by 8 steps at a time, into panels of which `MR` lanes are used in A.
///
/// # Safety
/// As `Microkernel::pack_k_contiguous`.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn pack_k<const MR: usize, const ROUND: bool, T: LoadVector>(
    rows: StridedRows<'_, T>,
    layout: PanelLayout,
    out: &mut [f32],
) {
    let panels = out.chunks_exact_mut(layout.len()).take(rows.count.div_ceil(layout.used));
    for (index, panel) in panels.enumerate() {
        let end = ((index + 1) * layout.used).min(rows.count);
        for first in (0..layout.stride).step_by(LANES) {
            let row = (index * layout.used + first).min(end);
            let own: [&[T]; LANES] = std::array::from_fn(|lane| match row + lane < end {
                true => rows.part(row + lane, 0, rows.width),
                false => &[],
            });
            let to = &mut panel[..rows.width * layout.stride];
            // SAFETY: the contract of the caller.
            unsafe {
                match end - row {
                    lanes if lanes == MR => transpose_rows::<MR, ROUND, T>(own, (first, layout.stride), to),
                    lanes if lanes >= LANES => {
                        transpose_rows::<LANES, ROUND, T>(own, (first, layout.stride), to)
                    }
                    _ => transpose_rows::<0, ROUND, T>(own, (first, layout.stride), to),
                }
            }
        }
    }
}

/// Packs `rows` into eight lanes from `first` on. The first `FULL` rows are as long as the panel and the others empty, which saves
/// the length checks in the loop; with `FULL` = 0 the rows may have any length.
///
/// # Safety
/// AVX2 is there.
#[target_feature(enable = "avx2")]
unsafe fn transpose_rows<const FULL: usize, const ROUND: bool, T: LoadVector>(
    rows: [&[T]; LANES],
    (first, stride): (usize, usize),
    panel: &mut [f32],
) {
    let width = panel.len() / stride;
    assert!(rows[..FULL].iter().all(|row| row.len() == width), "rows of {width} values");
    for (block, panel) in panel.chunks_mut(LANES * stride).enumerate() {
        let at = block * LANES;
        let mut values = [_mm256_setzero_ps(); LANES];
        if at + LANES <= width && FULL > 0 {
            for (value, row) in values.iter_mut().zip(&rows[..FULL]) {
                let from = row.as_ptr().wrapping_add(at);
                _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add(PREFETCH_ALONG_ROW).cast());
                // SAFETY: the row is as long as the panel, which has this block.
                *value = unsafe { T::load::<ROUND>(std::slice::from_raw_parts(from, LANES)) };
            }
        } else {
            for (value, row) in values.iter_mut().zip(&rows) {
                let part = &row[at.min(row.len())..(at + LANES).min(row.len())];
                // SAFETY: the contract of the caller.
                *value = unsafe { T::load::<ROUND>(part) };
            }
        }
        for (step, value) in panel.chunks_exact_mut(stride).zip(transpose(values)) {
            let lanes = &mut step[first..first + LANES];
            // SAFETY: the store fills these lanes.
            unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), value) };
        }
    }
}

/// Packs MN-contiguous rows: each is a step of all panels.
///
/// # Safety
/// As `Microkernel::pack_mn_contiguous`.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn pack_mn<const ROUND: bool, T: LoadVector>(
    rows: StridedRows<'_, T>,
    first_step: usize,
    layout: PanelLayout,
    out: &mut [f32],
) {
    let StridedRows { values, stride, count, width } = rows;
    assert!(count == 0 || (count - 1) * stride + width <= values.len(), "{count} rows of {width} values");
    // A few rows at a time across all panels: each row is read once, from one end to the other. More rows than L1 has ways would
    // evict each other where rows are a power of two apart.
    for first in (0..count).step_by(STEPS_PER_PASS) {
        let own = first..(first + STEPS_PER_PASS).min(count);
        let panels = out.chunks_exact_mut(layout.len()).take(width.div_ceil(layout.used));
        for (index, panel) in panels.enumerate() {
            let at = index * layout.used;
            let whole = at + layout.stride <= width;
            let lines = panel[(first_step + first) * layout.stride..].chunks_exact_mut(layout.stride);
            for (line, row) in lines.zip(own.clone()) {
                let from = values.as_ptr().wrapping_add(row * stride + at);
                // A task packs a short part of each row, so the prefetch is for the rows of the next pass.
                _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add(STEPS_PER_PASS * stride).cast());
                for (vector, lanes) in line.chunks_exact_mut(LANES).enumerate() {
                    // Unused lanes may hold anything: no tile writes their sums.
                    let values = match whole {
                        // SAFETY: rows lie within the values, and these within the row.
                        true => unsafe {
                            std::slice::from_raw_parts(from.wrapping_add(vector * LANES), LANES)
                        },
                        false => rows.part(row, at + vector * LANES, at + (vector + 1) * LANES),
                    };
                    // SAFETY: the contract of the caller; the store fills these lanes.
                    unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), T::load::<ROUND>(values)) };
                }
            }
        }
    }
}
