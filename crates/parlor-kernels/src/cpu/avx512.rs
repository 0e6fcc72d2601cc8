//! Helpers for 512-bit registers: masks of the first lanes, transposition.

use std::arch::x86_64::*;

/// f32 lanes of a register.
pub(crate) const LANES: usize = 16;

/// Mask of the first `n` of 16 lanes.
#[inline]
pub(crate) fn lane_mask(n: usize) -> __mmask16 {
    if n >= LANES { u16::MAX } else { (1 << n) - 1 }
}

/// Transposes 16 x 16 elements of 32 bits.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn transpose_16x16(rows: &mut [__m512i; 16]) {
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
