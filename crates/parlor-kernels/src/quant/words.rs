//! Reading little-endian words and f16 numbers out of a block's bytes, and the form in which quants leave it.

use half::f16;

/// 32 quants, one per byte, four to a word, the first in the lowest byte.
pub(crate) type QuantWords = [u32; 8];

/// `N` words of `bytes` from `start` on.
#[inline(always)]
pub(super) fn read_words<const N: usize>(bytes: &[u8], start: usize) -> [u32; N] {
    let mut words = [0; N];
    for (word, four) in words.iter_mut().zip(bytes[start..start + 4 * N].chunks_exact(4)) {
        *word = u32::from_le_bytes([four[0], four[1], four[2], four[3]]);
    }
    words
}

/// The f16 at `start` of `bytes`.
pub(super) fn read_f16(bytes: &[u8], start: usize) -> f16 {
    f16::from_le_bytes([bytes[start], bytes[start + 1]])
}

/// The quants one by one.
#[inline(always)]
pub(super) fn quant_bytes(words: QuantWords) -> [u8; 32] {
    bytemuck::cast(words.map(u32::to_le))
}
