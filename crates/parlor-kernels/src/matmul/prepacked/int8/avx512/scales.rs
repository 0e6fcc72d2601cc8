//! Scales and minima of 16 lanes.

use std::arch::x86_64::*;

use crate::memory::prepacked::layout::{LANES, LINE_BYTES, PANEL, ScaleKind, StaticLayout};

/// The scales of half a panel in a sub-block.
///
/// # Safety
/// AVX-512F is there, and the interleaved block, and its block of 32 columns, aligned.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn scales_of<L: StaticLayout>(
    interleaved: *const u8,
    own: *const u8,
    half: usize,
    sub_block: usize,
) -> __m512 {
    // SAFETY: the contract of the caller.
    unsafe {
        match L::LAYOUT.scale_kind() {
            ScaleKind::PerBlock | ScaleKind::PerBlockWithMin => f16_line(own, half),
            ScaleKind::SuperBlock => _mm512_mul_ps(f16_line(interleaved, half), bytes(own.add(half * LANES))),
            ScaleKind::SuperBlockOfHalves => {
                let own = _mm_load_si128(own.add(sub_block * PANEL + half * LANES).cast());
                let own = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(own));
                _mm512_mul_ps(f16_line(interleaved, half), own)
            }
            ScaleKind::PerTwoBlocks => {
                _mm512_load_ps(interleaved.add(LINE_BYTES * half * L::LAYOUT.block_lines()).cast())
            }
        }
    }
}

/// The minima of half a panel.
///
/// # Safety
/// As [`scales_of`].
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn mins_of<L: StaticLayout>(interleaved: *const u8, own: *const u8, half: usize) -> __m512 {
    // SAFETY: the contract of the caller.
    unsafe {
        if matches!(L::LAYOUT.scale_kind(), ScaleKind::PerBlockWithMin) {
            return f16_line(own.add(LINE_BYTES), half);
        }
        _mm512_mul_ps(f16_line(interleaved.add(LINE_BYTES), half), bytes(own.add(PANEL + half * LANES)))
    }
}

/// 16 unsigned bytes, widened.
///
/// # Safety
/// AVX-512F is there, and they are, aligned.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn bytes(at: *const u8) -> __m512 {
    // SAFETY: the contract of the caller.
    _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(unsafe { _mm_load_si128(at.cast()) }))
}

/// 16 f16 of a line, widened.
///
/// # Safety
/// AVX-512F is there, and a line, aligned.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn f16_line(line: *const u8, half: usize) -> __m512 {
    // SAFETY: the contract of the caller.
    unsafe { _mm512_cvtph_ps(_mm256_load_si256(line.add(half * 2 * LANES).cast())) }
}
