//! From rows to panels: a line of a panel has four bytes of each of 16 rows, so interleaving transposes 32-bit words.

use super::layout::{HALVES, LANES, STEP};
use super::words::WordLayout;
use crate::memory::scratch::CacheLine;

/// Interleaves the words of up to 32 rows.
pub(super) fn interleave_words(bytes: &[u8], layout: WordLayout, out: &mut [CacheLine]) {
    #[cfg(target_arch = "x86_64")]
    if crate::cpu::isa::allows(crate::cpu::isa::Isa::Avx512) {
        // SAFETY: the instruction set is there.
        return unsafe { super::interleave_avx512::interleave_words(bytes, layout, out) };
    }
    let WordLayout { row, first, chunk, words, flip, .. } = layout;
    let lines = layout.lines();
    let out: &mut [[u32; LANES]] = bytemuck::cast_slice_mut(out);
    for (row, own) in bytes.chunks_exact(row).enumerate() {
        for (index, own) in own.chunks(chunk).enumerate().take(layout.chunks) {
            let to = &mut out[lines.of(index)..];
            for (word, bytes) in own[first..].chunks_exact(STEP).take(words).enumerate() {
                let bytes = u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
                to[word * HALVES + row / LANES][row % LANES] = bytes ^ flip;
            }
        }
    }
}
