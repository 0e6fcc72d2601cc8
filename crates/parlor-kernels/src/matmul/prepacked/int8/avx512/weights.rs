//! Expanding quants of 4 to 6 bits to bytes.

use std::arch::x86_64::*;

use crate::memory::prepacked::layout::{HALVES, LINE_BYTES, PackedLayout, StaticLayout};
use crate::quant::nf4;

/// The high bits of a sub-block, whose first lines are at `high`: to be shifted right for low nibbles, and left for high ones; zeros
/// where the layout has none.
///
/// # Safety
/// AVX-512F is there, and the lines, aligned.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn high_bits<L: StaticLayout>(high: *const u8, sub_block: usize) -> [[__m512i; HALVES]; 2] {
    if L::LAYOUT.high_bits() == 0 {
        return [[_mm512_setzero_si512(); HALVES]; 2];
    }
    // SAFETY: the contract of the caller.
    unsafe {
        let line = high.add(LINE_BYTES * HALVES * sub_block);
        [[_mm512_load_si512(line.cast()), _mm512_load_si512(line.add(LINE_BYTES).cast())]; 2]
    }
}

/// The weights in low nibbles; `bits` has the high bits of this step in place, and afterwards those of the next.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn lower<L: StaticLayout>(
    both: [__m512i; HALVES],
    bits: &mut [__m512i; HALVES],
) -> [__m512i; HALVES] {
    let own = both.map(|both| _mm512_and_si512(both, _mm512_set1_epi8(15)));
    let weights = with_high::<L>(own, bits);
    for bits in bits {
        *bits = match L::LAYOUT.high_bits() {
            1 => _mm512_srli_epi16::<1>(*bits),
            2 => _mm512_srli_epi16::<2>(*bits),
            _ => *bits,
        };
    }
    weights
}

/// The weights in high nibbles; `bits` is shifted from the last step to this.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn upper<L: StaticLayout>(
    both: [__m512i; HALVES],
    bits: &mut [__m512i; HALVES],
) -> [__m512i; HALVES] {
    for bits in &mut *bits {
        *bits = match L::LAYOUT.high_bits() {
            1 => _mm512_slli_epi16::<1>(*bits),
            2 => _mm512_slli_epi16::<2>(*bits),
            _ => *bits,
        };
    }
    let own = both.map(|both| _mm512_and_si512(_mm512_srli_epi16::<4>(both), _mm512_set1_epi8(15)));
    with_high::<L>(own, bits)
}

/// Nibbles with their bits above the fourth, which are some of `bits`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn with_high<L: StaticLayout>(low: [__m512i; HALVES], bits: &[__m512i; HALVES]) -> [__m512i; HALVES] {
    let mut weights = low;
    for (weights, bits) in weights.iter_mut().zip(bits) {
        let mask = match (L::LAYOUT, L::LAYOUT.high_bits()) {
            (PackedLayout::Nf4, _) => {
                *weights = _mm512_shuffle_epi8(levels(), *weights);
                continue;
            }
            (_, 0) => continue,
            (_, 1) => 0x10,
            _ => 0x30,
        };
        // low | (bits & mask)
        *weights = _mm512_ternarylogic_epi32::<0xF8>(*weights, *bits, _mm512_set1_epi8(mask));
    }
    weights
}

/// NF4's levels, zero point added.
#[inline]
#[target_feature(enable = "avx512f")]
fn levels() -> __m512i {
    const UNSIGNED: [u8; 16] = {
        let mut levels = [0; 16];
        let mut at = 0;
        while at < levels.len() {
            levels[at] = nf4::INT8_CODEBOOK[at].cast_unsigned() ^ 0x80;
            at += 1;
        }
        levels
    };
    // SAFETY: the bytes are there.
    _mm512_broadcast_i32x4(unsafe { _mm_loadu_si128(UNSIGNED.as_ptr().cast()) })
}
