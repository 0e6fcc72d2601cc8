//! The dot products on 512-bit registers: four sums for one row, one each for many, so that no addition waits for the
//! one before it.

use std::arch::x86_64::*;

use half::{bf16, f16};

use super::GROUP;
use crate::View;

/// Bytes of weights that are asked for ahead of those in use.
const AHEAD: usize = 4096;

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
    let (rows, outputs) = (x.len() / inputs.max(1), weight.len() / inputs.max(1));
    assert!(out.len() == rows * outputs && x.len() == rows * inputs && weight.len() == outputs * inputs);
    let sums = match (rows, outputs) {
        (1, _) => sums::<T, 1, 1, 4>,
        (2, GROUP) => sums::<T, 2, GROUP, 1>,
        (2, _) => sums::<T, 2, 1, 2>,
        (3, GROUP) => sums::<T, 3, GROUP, 1>,
        (3, _) => sums::<T, 3, 1, 2>,
        (4, GROUP) => sums::<T, 4, GROUP, 1>,
        (4, _) => sums::<T, 4, 1, 1>,
        (5, GROUP) => sums::<T, 5, GROUP, 1>,
        (5, _) => sums::<T, 5, 1, 1>,
        (6, GROUP) => sums::<T, 6, GROUP, 1>,
        (6, _) => sums::<T, 6, 1, 1>,
        (7, GROUP) => sums::<T, 7, GROUP, 1>,
        (7, _) => sums::<T, 7, 1, 1>,
        (8, GROUP) => sums::<T, 8, GROUP, 1>,
        _ => sums::<T, 8, 1, 1>,
    };
    let together = if outputs == GROUP && rows > 1 { GROUP } else { 1 };
    let parts = weight.chunks_exact(together * inputs).zip(out.chunks_exact_mut(together * rows));
    // SAFETY: the instruction set is there, and the parts are as long as the sizes say.
    parts.for_each(|(weight, out)| unsafe { sums(x, weight, inputs, out) });
}

/// `R` input rows and `O` weight rows, with `S` sums for each pair.
///
/// # Safety
/// AVX-512F is there, `x` holds `R` rows and `weight` `O` rows of `inputs` values each.
#[target_feature(enable = "avx512f")]
unsafe fn sums<T: Element, const R: usize, const O: usize, const S: usize>(
    x: &[f32],
    weight: &[T],
    inputs: usize,
    out: &mut [f32],
) {
    let (w, x) = (weight.as_ptr(), x.as_ptr());
    let mut sums = [[[_mm512_setzero_ps(); S]; O]; R];
    let step = 16 * S;
    let whole = inputs / step * step;
    let mut at = 0;
    while at < whole {
        // SAFETY: `at + step` values lie in the rows; what is asked for ahead need not be there.
        unsafe {
            let mut values = [[_mm512_setzero_ps(); S]; O];
            for (o, values) in values.iter_mut().enumerate() {
                let w = w.add(o * inputs + at);
                for line in (0..step * size_of::<T>()).step_by(64) {
                    _mm_prefetch::<_MM_HINT_T0>(w.cast::<i8>().wrapping_add(AHEAD + line));
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
                let values = T::load(w.add(o * inputs + at), mask);
                for (r, sums) in sums.iter_mut().enumerate() {
                    let own = _mm512_maskz_loadu_ps(mask, x.add(r * inputs + at));
                    sums[o][0] = _mm512_fmadd_ps(values, own, sums[o][0]);
                }
            }
        }
        at += 16;
    }
    for (r, sums) in sums.into_iter().enumerate() {
        for (o, sums) in sums.into_iter().enumerate() {
            let all = sums.into_iter().reduce(|a, b| _mm512_add_ps(a, b));
            out[o * R + r] = _mm512_reduce_add_ps(all.unwrap_or(_mm512_setzero_ps()));
        }
    }
}
