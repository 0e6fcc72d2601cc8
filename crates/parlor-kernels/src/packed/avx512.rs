//! The product with `vpdpbusd` on 512-bit registers: a block of a panel stays in 16 registers while the input rows
//! pass by.

use std::arch::x86_64::*;
use std::ops::Range;

use half::f16;

use super::{BLOCK, HALVES, Inputs, LANES, PANEL, Panel, STEP, lines};
use crate::BlockFormat;
use crate::scratch::Line;

const STEPS: usize = BLOCK / STEP;
/// Lines that are asked for ahead of those in use: about as many as come in the time that memory takes to answer.
const AHEAD: usize = 64;

/// # Safety
/// AVX-512 F, BW and VNNI are there.
pub(super) unsafe fn run(panel: &Panel<'_>, x: &Inputs, rows: Range<usize>, sums: &mut [f32]) {
    // SAFETY: the contract of the caller.
    unsafe {
        match panel.format {
            BlockFormat::Q4_0 => blocks::<true>(panel, x, rows, sums),
            _ => blocks::<false>(panel, x, rows, sums),
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn blocks<const FOUR_BITS: bool>(panel: &Panel<'_>, x: &Inputs, rows: Range<usize>, sums: &mut [f32]) {
    let per_block = lines(panel.format);
    for block in 0..x.columns() / BLOCK {
        let mut weights = [[_mm512_setzero_si512(); STEPS]; HALVES];
        let mut scales = [_mm512_setzero_ps(); HALVES];
        for half in 0..HALVES {
            let at = (block * HALVES + half) * per_block;
            load::<FOUR_BITS>(&panel.codes[at..at + per_block], &mut weights[half]);
            let at = block * PANEL + half * LANES;
            scales[half] = widened(&panel.scales[at..at + LANES]);
        }
        let inputs = x.codes(block, &rows).iter().zip(x.about(block, &rows));
        for ((codes, about), sums) in inputs.zip(sums.chunks_exact_mut(PANEL)) {
            let start = _mm512_set1_epi32(about.start(panel.format));
            let scale = _mm512_set1_ps(about.scale);
            let (mut one, mut other) = (start, start);
            for step in 0..STEPS {
                let four: [i8; STEP] = [0, 1, 2, 3].map(|byte| codes[step * STEP + byte]);
                let four = _mm512_set1_epi32(i32::from_le_bytes(bytemuck::cast(four)));
                one = _mm512_dpbusd_epi32(one, weights[0][step], four);
                other = _mm512_dpbusd_epi32(other, weights[1][step], four);
            }
            for (half, integers) in [one, other].into_iter().enumerate() {
                let at = sums[half * LANES..(half + 1) * LANES].as_mut_ptr();
                let factor = _mm512_mul_ps(scales[half], scale);
                // SAFETY: these are 16 values of `sums`.
                unsafe {
                    let sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(integers), factor, _mm512_loadu_ps(at));
                    _mm512_storeu_ps(at, sum);
                }
            }
        }
    }
}

/// A block's eight steps.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn load<const FOUR_BITS: bool>(codes: &[Line], weights: &mut [__m512i; STEPS]) {
    let low = _mm512_set1_epi8(15);
    for (index, line) in codes.iter().enumerate() {
        let line: *const Line = line;
        _mm_prefetch::<_MM_HINT_T0>(line.wrapping_add(AHEAD).cast());
        // SAFETY: a line is 64 bytes and aligned to them.
        let bytes = unsafe { _mm512_load_si512(line.cast()) };
        if FOUR_BITS {
            weights[index] = _mm512_and_si512(bytes, low);
            weights[index + STEPS / 2] = _mm512_and_si512(_mm512_srli_epi16::<4>(bytes), low);
        } else {
            weights[index] = bytes;
        }
    }
}

/// 16 scales as f32.
#[inline]
#[target_feature(enable = "avx512f")]
fn widened(scales: &[f16]) -> __m512 {
    let scales: &[f16; LANES] = scales.first_chunk().unwrap_or(&[f16::ZERO; LANES]);
    // SAFETY: these are 16 values of 16 bits.
    unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(scales.as_ptr().cast())) }
}
