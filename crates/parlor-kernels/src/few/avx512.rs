//! The dot products on 512-bit registers: four sums for one row, one each for many, so that no addition waits for the
//! one before it.

use std::arch::x86_64::*;

use half::{bf16, f16};

use crate::View;

/// Bytes of weights that are asked for ahead of those in use.
const AHEAD: usize = 2048;

/// # Safety
/// AVX-512F is there.
pub(super) unsafe fn dots(x: &[f32], weight: View<'_>, inputs: usize, out: &mut [f32]) {
    // SAFETY: the contract of the caller.
    unsafe {
        match weight {
            View::F32(w) => by_rows(x, w, inputs, out),
            View::Bf16(w) => by_rows(x, w, inputs, out),
            View::F16(w) => by_rows(x, w, inputs, out),
            // These are widened before.
            View::Block(_) | View::Packed(_) => out.fill(f32::NAN),
        }
    }
}

/// A number that a register of 16 f32 is filled with.
trait Element: Copy {
    /// 16 of them from `at` on, those that `mask` names; the others are zero.
    ///
    /// # Safety
    /// AVX-512F is there, and those that `mask` names lie in memory.
    unsafe fn load(at: *const Self, mask: __mmask16) -> __m512;
}

impl Element for f32 {
    #[inline(always)]
    unsafe fn load(at: *const Self, mask: __mmask16) -> __m512 {
        // SAFETY: the contract of the caller.
        unsafe { _mm512_maskz_loadu_ps(mask, at) }
    }
}

impl Element for bf16 {
    #[inline(always)]
    unsafe fn load(at: *const Self, mask: __mmask16) -> __m512 {
        // SAFETY: the contract of the caller.
        unsafe {
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(half_line(at.cast(), mask))))
        }
    }
}

impl Element for f16 {
    #[inline(always)]
    unsafe fn load(at: *const Self, mask: __mmask16) -> __m512 {
        // SAFETY: the contract of the caller.
        unsafe { _mm512_cvtph_ps(half_line(at.cast(), mask)) }
    }
}

/// 16 values of 16 bits.
///
/// # Safety
/// As [`Element::load`].
#[inline(always)]
unsafe fn half_line(at: *const u16, mask: __mmask16) -> __m256i {
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
/// AVX-512F is there.
#[target_feature(enable = "avx512f")]
unsafe fn by_rows<T: Element>(x: &[f32], weight: &[T], inputs: usize, out: &mut [f32]) {
    assert!(weight.len() == inputs && x.len() == inputs * out.len(), "{} inputs", inputs);
    // SAFETY: the sizes were just checked.
    unsafe {
        match out.len() {
            1 => sums::<T, 1, 4>(x, weight, out),
            2 => sums::<T, 2, 2>(x, weight, out),
            3 => sums::<T, 3, 2>(x, weight, out),
            4 => sums::<T, 4, 1>(x, weight, out),
            5 => sums::<T, 5, 1>(x, weight, out),
            6 => sums::<T, 6, 1>(x, weight, out),
            7 => sums::<T, 7, 1>(x, weight, out),
            _ => sums::<T, 8, 1>(x, weight, out),
        }
    }
}

/// `R` rows, with `S` sums for each.
///
/// # Safety
/// AVX-512F is there, and `x` holds `R` rows as long as `weight`.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn sums<T: Element, const R: usize, const S: usize>(x: &[f32], weight: &[T], out: &mut [f32]) {
    let (inputs, w, x) = (weight.len(), weight.as_ptr(), x.as_ptr());
    let mut sums = [[_mm512_setzero_ps(); S]; R];
    let whole = inputs / (16 * S) * (16 * S);
    let mut at = 0;
    while at < whole {
        // SAFETY: `at + 16 * S` values lie in the rows; what is asked for ahead need not be there.
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(w.add(at).cast::<i8>().wrapping_add(AHEAD));
            for s in 0..S {
                let values = T::load(w.add(at + 16 * s), u16::MAX);
                for (r, sums) in sums.iter_mut().enumerate() {
                    sums[s] =
                        _mm512_fmadd_ps(values, _mm512_loadu_ps(x.add(r * inputs + at + 16 * s)), sums[s]);
                }
            }
        }
        at += 16 * S;
    }
    while at < inputs {
        let mask = if inputs - at >= 16 { u16::MAX } else { (1 << (inputs - at)) - 1 };
        // SAFETY: the mask leaves out what lies past the row.
        unsafe {
            let values = T::load(w.add(at), mask);
            for (r, sums) in sums.iter_mut().enumerate() {
                let own = _mm512_maskz_loadu_ps(mask, x.add(r * inputs + at));
                sums[0] = _mm512_fmadd_ps(values, own, sums[0]);
            }
        }
        at += 16;
    }
    for (out, sums) in out.iter_mut().zip(sums) {
        *out = _mm512_reduce_add_ps(
            sums.into_iter().reduce(|a, b| _mm512_add_ps(a, b)).unwrap_or(_mm512_setzero_ps()),
        );
    }
}
