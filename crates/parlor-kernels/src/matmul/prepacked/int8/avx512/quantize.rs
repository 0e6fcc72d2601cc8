//! Quantizing activations with 512-bit registers.

use std::arch::x86_64::*;

use crate::matmul::prepacked::int8::q8_block::Q8Block;
use crate::memory::prepacked::layout::BLOCK;

/// As `q8_block::quantize`, to the bit.
///
/// # Safety
/// AVX-512 F, BW, VL and VNNI are there; there are as many blocks of `x` as of `quants` and `q8`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub(crate) unsafe fn quantize(x: &[f32], quants: &mut [[i8; BLOCK]], q8: &mut [Q8Block]) {
    assert!(x.len() == quants.len() * BLOCK && q8.len() == quants.len(), "blocks of 32");
    let ones = _mm256_set1_epi8(1);
    for ((x, quants), q8) in x.chunks_exact(BLOCK).zip(quants).zip(q8) {
        // SAFETY: a block is 32 values and as many quants.
        unsafe {
            let x = [_mm512_loadu_ps(x.as_ptr()), _mm512_loadu_ps(x.as_ptr().add(16))];
            let zero = _mm512_setzero_ps();
            // A NaN is dropped from the maximum, and poisons the scale.
            let max = _mm512_max_ps(_mm512_abs_ps(x[1]), _mm512_max_ps(_mm512_abs_ps(x[0]), zero));
            let nan = x.map(|x| not_finite(x)).into_iter().fold(0, |a, b| a | b);
            let max = _mm512_reduce_max_ps(max);
            let poison = if nan != 0 { f32::NAN } else { 0.0 };
            let scale = max / 127.0 + poison;
            let inverse = _mm512_set1_ps(if max > 0.0 { 127.0 / max } else { 0.0 });
            let bytes = x.map(|x| _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(x, inverse))));
            let bytes = _mm256_set_m128i(bytes[1], bytes[0]);
            _mm256_storeu_si256(quants.as_mut_ptr().cast(), bytes);
            let sums = _mm256_dpbusd_epi32(_mm256_setzero_si256(), ones, bytes);
            // Two sums per half, then one.
            let sums = _mm256_add_epi32(sums, _mm256_shuffle_epi32::<0x4E>(sums));
            let sums = _mm256_add_epi32(sums, _mm256_shuffle_epi32::<0xB1>(sums));
            let [first, second] = [_mm256_castsi256_si128(sums), _mm256_extracti128_si256::<1>(sums)];
            *q8 = Q8Block::new(scale, [_mm_cvtsi128_si32(first), _mm_cvtsi128_si32(second)]);
        }
    }
}

/// Lanes that are NaN or infinite.
#[inline]
#[target_feature(enable = "avx512f")]
fn not_finite(x: __m512) -> __mmask16 {
    let exponent = _mm512_set1_epi32(0x7F80_0000);
    let bits = _mm512_and_si512(_mm512_castps_si512(x), exponent);
    _mm512_cmpeq_epi32_mask(bits, exponent)
}
