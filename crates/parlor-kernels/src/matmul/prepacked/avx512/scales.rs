//! What sums are multiplied by, and what is taken from them, 16 lanes at a time.

use std::arch::x86_64::*;

use crate::matmul::prepacked::order::{Kind, Scaling};
use crate::matmul::prepacked::{LANES, LINE, PANEL};

/// What the sums of a fold of a half's lanes are multiplied by.
///
/// # Safety
/// AVX-512F is there, and the record and its block, aligned.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn scales_of<K: Kind>(
    record: *const u8,
    own: *const u8,
    half: usize,
    fold: usize,
) -> __m512 {
    // SAFETY: the contract of the caller.
    unsafe {
        match K::ORDER.scaling() {
            Scaling::One | Scaling::Two => halves(own, half),
            Scaling::Groups => _mm512_mul_ps(halves(record, half), bytes(own.add(half * LANES))),
            Scaling::Halves => {
                let own = _mm_load_si128(own.add(fold * PANEL + half * LANES).cast());
                let own = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(own));
                _mm512_mul_ps(halves(record, half), own)
            }
            Scaling::Wide => _mm512_load_ps(record.add(LINE * half * K::ORDER.block_lines()).cast()),
        }
    }
}

/// What is taken from each column of a half's lanes.
///
/// # Safety
/// As [`scales_of`].
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn offsets_of<K: Kind>(record: *const u8, own: *const u8, half: usize) -> __m512 {
    // SAFETY: the contract of the caller.
    unsafe {
        if matches!(K::ORDER.scaling(), Scaling::Two) {
            return halves(own.add(LINE), half);
        }
        _mm512_mul_ps(halves(record.add(LINE), half), bytes(own.add(PANEL + half * LANES)))
    }
}

/// 16 bytes without a sign.
///
/// # Safety
/// AVX-512F is there, and they are, aligned.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn bytes(at: *const u8) -> __m512 {
    // SAFETY: the contract of the caller.
    _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(unsafe { _mm_load_si128(at.cast()) }))
}

/// The f16 of a half of a line.
///
/// # Safety
/// AVX-512F is there, and a line, aligned.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn halves(line: *const u8, half: usize) -> __m512 {
    // SAFETY: the contract of the caller.
    unsafe { _mm512_cvtph_ps(_mm256_load_si256(line.add(half * 2 * LANES).cast())) }
}
