//! gemv with 512-bit registers: four accumulators for one input row, one each for many, so that no addition waits for the one
//! before it.

use std::arch::x86_64::*;

use half::{bf16, f16};

use super::kernel::{MAX_ROWS, WEIGHT_ROWS, WeightRows};
use crate::memory::View;

/// Sums of a call, at most, in whole fours.
const MAX_SUMS: usize = (MAX_ROWS * WEIGHT_ROWS).next_multiple_of(4);
/// Prefetch distance in bytes.
const PREFETCH_BYTES: usize = 4096;

/// # Safety
/// AVX-512 F and VL are there.
pub(crate) unsafe fn dots(x: &[f32], weight: View<'_>, rows: WeightRows, out: &mut [f32]) {
    // SAFETY: the contract of the caller.
    unsafe {
        match weight {
            View::F32(w) => by_rows(x, w, rows, out),
            View::Bf16(w) => by_rows(x, w, rows, out),
            View::F16(w) => by_rows(x, w, rows, out),
            // The driver widens these before.
            View::Block(_) | View::Packed(_) => out.fill(f32::NAN),
        }
    }
}

/// An element type that 16 f32 lanes are loaded from.
trait Load16: Copy {
    /// Loads 16 elements from `at` on under `mask`; the other lanes are zero.
    ///
    /// # Safety
    /// AVX-512 F and VL are there, and those under `mask` lie in memory.
    unsafe fn load(at: *const Self, mask: __mmask16) -> __m512;
}

impl Load16 for f32 {
    #[inline(always)]
    unsafe fn load(at: *const Self, mask: __mmask16) -> __m512 {
        // SAFETY: the contract of the caller.
        unsafe { _mm512_maskz_loadu_ps(mask, at) }
    }
}

impl Load16 for bf16 {
    #[inline(always)]
    unsafe fn load(at: *const Self, mask: __mmask16) -> __m512 {
        // SAFETY: the contract of the caller.
        unsafe {
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(load_u16(at.cast(), mask))))
        }
    }
}

impl Load16 for f16 {
    #[inline(always)]
    unsafe fn load(at: *const Self, mask: __mmask16) -> __m512 {
        // SAFETY: the contract of the caller.
        unsafe { _mm512_cvtph_ps(load_u16(at.cast(), mask)) }
    }
}

/// 16 values of 16 bits.
///
/// # Safety
/// As [`Load16::load`].
#[inline(always)]
unsafe fn load_u16(at: *const u16, mask: __mmask16) -> __m256i {
    // SAFETY: the contract of the caller.
    unsafe {
        if mask == u16::MAX {
            return _mm256_loadu_si256(at.cast());
        }
        let mut values = [0u16; 16];
        std::ptr::copy_nonoverlapping(at, values.as_mut_ptr(), mask.count_ones() as usize);
        _mm256_loadu_si256(values.as_ptr().cast())
    }
}

/// # Safety
/// AVX-512 F and VL are there.
#[target_feature(enable = "avx512f,avx512vl")]
unsafe fn by_rows<T: Load16>(x: &[f32], weight: &[T], weight_rows: WeightRows, out: &mut [f32]) {
    let WeightRows { len: inputs, stride } = weight_rows;
    let rows = x.len() / inputs.max(1);
    let outputs = out.len() / rows.max(1);
    if outputs == 0 {
        return;
    }
    assert!(
        out.len() == rows * outputs
            && x.len() == rows * inputs
            && (outputs - 1) * stride + inputs <= weight.len(),
        "{outputs} weight rows of {weight_rows:?} in {}, for {rows} rows",
        weight.len()
    );
    let (several, one): (Sums<T>, Sums<T>) = match rows {
        // One input row takes one weight row at a time, with four accumulators.
        1 => (sums::<T, 1, 1, 4>, sums::<T, 1, 1, 4>),
        2 => (sums::<T, 2, WEIGHT_ROWS, 1>, sums::<T, 2, 1, 2>),
        3 => (sums::<T, 3, WEIGHT_ROWS, 1>, sums::<T, 3, 1, 2>),
        4 => (sums::<T, 4, WEIGHT_ROWS, 1>, sums::<T, 4, 1, 1>),
        5 => (sums::<T, 5, WEIGHT_ROWS, 1>, sums::<T, 5, 1, 1>),
        6 => (sums::<T, 6, WEIGHT_ROWS, 1>, sums::<T, 6, 1, 1>),
        7 => (sums::<T, 7, WEIGHT_ROWS, 1>, sums::<T, 7, 1, 1>),
        8 => (sums::<T, 8, WEIGHT_ROWS, 1>, sums::<T, 8, 1, 1>),
        _ => unreachable!("at most {MAX_ROWS} rows at once, not {rows}"),
    };
    let group = if rows == 1 { 1 } else { WEIGHT_ROWS };
    let whole = outputs / group * group;
    let (groups, rest) = out.split_at_mut(whole * rows);
    // SAFETY: the instruction set is there, and the rows were just counted.
    unsafe {
        for (at, out) in groups.chunks_exact_mut(group * rows).enumerate() {
            several(x, weight.as_ptr().add(at * group * stride), weight_rows, out);
        }
        for (at, out) in rest.chunks_exact_mut(rows).enumerate() {
            one(x, weight.as_ptr().add((whole + at) * stride), weight_rows, out);
        }
    }
}

/// See [`sums`].
type Sums<T> = unsafe fn(&[f32], *const T, WeightRows, &mut [f32]);

/// `R` input rows and `O` weight rows, with `S` sums for each pair.
///
/// # Safety
/// AVX-512 F and VL are there, `x` holds `R` rows and `w` begins `O` rows of `inputs` values each, `stride` apart.
#[target_feature(enable = "avx512f,avx512vl")]
unsafe fn sums<T: Load16, const R: usize, const O: usize, const S: usize>(
    x: &[f32],
    w: *const T,
    WeightRows { len: inputs, stride }: WeightRows,
    out: &mut [f32],
) {
    let x = x.as_ptr();
    let mut sums = [[[_mm512_setzero_ps(); S]; O]; R];
    let step = 16 * S;
    let whole = inputs / step * step;
    let mut at = 0;
    while at < whole {
        // SAFETY: `at + step` values lie in the rows; a prefetch may miss.
        unsafe {
            let mut values = [[_mm512_setzero_ps(); S]; O];
            for (o, values) in values.iter_mut().enumerate() {
                let w = w.add(o * stride + at);
                for line in (0..step * size_of::<T>()).step_by(64) {
                    _mm_prefetch::<_MM_HINT_T0>(w.cast::<i8>().wrapping_add(PREFETCH_BYTES + line));
                }
                for (s, value) in values.iter_mut().enumerate() {
                    *value = T::load(w.add(16 * s), u16::MAX);
                }
            }
            for (r, sums) in sums.iter_mut().enumerate() {
                for s in 0..S {
                    let x = _mm512_loadu_ps(x.add(r * inputs + at + 16 * s));
                    for (sums, values) in sums.iter_mut().zip(&values) {
                        sums[s] = _mm512_fmadd_ps(values[s], x, sums[s]);
                    }
                }
            }
        }
        at += step;
    }
    while at < inputs {
        let mask = if inputs - at >= 16 { u16::MAX } else { (1 << (inputs - at)) - 1 };
        // SAFETY: the mask leaves out what lies past the rows.
        unsafe {
            for o in 0..O {
                let values = T::load(w.add(o * stride + at), mask);
                for (r, sums) in sums.iter_mut().enumerate() {
                    let own = _mm512_maskz_loadu_ps(mask, x.add(r * inputs + at));
                    sums[o][0] = _mm512_fmadd_ps(values, own, sums[o][0]);
                }
            }
        }
        at += 16;
    }
    // By weight row, and four at a time.
    let mut all = [_mm512_setzero_ps(); MAX_SUMS];
    for (r, sums) in sums.into_iter().enumerate() {
        for (o, sums) in sums.into_iter().enumerate() {
            all[o * R + r] = sums.into_iter().reduce(|a, b| _mm512_add_ps(a, b)).unwrap_or(all[0]);
        }
    }
    for (at, out) in out[..R * O].chunks_mut(4).enumerate() {
        let own = [all[4 * at], all[4 * at + 1], all[4 * at + 2], all[4 * at + 3]];
        let mask = (1 << out.len()) - 1;
        // SAFETY: the mask leaves out what lies past the sums.
        unsafe { _mm_mask_storeu_ps(out.as_mut_ptr(), mask, horizontal_sums(own)) };
    }
}

/// The sum of each of four registers.
#[inline]
#[target_feature(enable = "avx512f,avx512vl")]
fn horizontal_sums([a, b, c, d]: [__m512; 4]) -> __m128 {
    // Lanes of two registers alternate, then of four.
    let ab = _mm512_castps_pd(_mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b)));
    let cd = _mm512_castps_pd(_mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d)));
    let sums = _mm512_add_ps(
        _mm512_castpd_ps(_mm512_unpacklo_pd(ab, cd)),
        _mm512_castpd_ps(_mm512_unpackhi_pd(ab, cd)),
    );
    let half = _mm256_add_ps(
        _mm512_castps512_ps256(sums),
        _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(sums))),
    );
    _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps::<1>(half))
}
