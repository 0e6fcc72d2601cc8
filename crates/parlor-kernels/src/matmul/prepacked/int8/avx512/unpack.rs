//! Unpacks 4- to 6-bit quants to int8 once, so that a large batch does not repeat it per tile: a layout becomes its
//! [`PackedLayout::as_int8`].

use std::arch::x86_64::*;

use super::weights::{high_bits, lower, upper};
use crate::memory::prepacked::layout::{HALVES, LINE_BYTES, PackedLayout, StaticLayout, with_layout};
use crate::memory::scratch::CacheLine;

/// # Safety
/// AVX-512 F and BW are there.
pub(crate) unsafe fn unpack(layout: PackedLayout, from: &[CacheLine], to: &mut [CacheLine]) {
    let count = from.len() / layout.lines();
    assert!(count * layout.as_int8().lines() <= to.len(), "room for {count} interleaved blocks");
    // SAFETY: the contract of the caller; there is room, as was just checked.
    with_layout!(layout, L => unsafe { unpack_as::<L>(count, from.as_ptr(), to.as_mut_ptr()) });
}

/// # Safety
/// AVX-512 F and BW are there, and `count` interleaved blocks and room for as many.
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn unpack_as<L: StaticLayout>(count: usize, from: *const CacheLine, to: *mut CacheLine) {
    let (layout, wide) = const { (L::LAYOUT, L::LAYOUT.as_int8()) };
    // From the zero point of the format to that of 8 bits.
    let more = _mm512_set1_epi8((wide.zero_point() - layout.zero_point()) as i8);
    // SAFETY: every address lies in an interleaved block, as the contract says.
    unsafe {
        let copy =
            |from: *const CacheLine, to: *mut CacheLine, lines: usize| from.copy_to_nonoverlapping(to, lines);
        for interleaved in 0..count {
            let from = from.add(interleaved * layout.lines());
            let to = to.add(interleaved * wide.lines());
            copy(from, to, layout.header_lines());
            for block in 0..layout.blocks() {
                let from = from.add(layout.header_lines() + block * layout.block_lines());
                let to = to.add(layout.header_lines() + block * wide.block_lines());
                copy(from, to, layout.scale_lines());
                let high: *const u8 = from.add(layout.scale_lines()).cast();
                let first = high.add(LINE_BYTES * HALVES * layout.high_bits());
                let to: *mut u8 = to.add(layout.scale_lines()).cast();
                for sub_block in 0..layout.sub_blocks() {
                    let [mut down, mut up] = high_bits::<L>(high, sub_block);
                    for line in 0..L::LINES {
                        let at = first.add(LINE_BYTES * HALVES * (sub_block * L::LINES + line));
                        let both = [0, LINE_BYTES].map(|half| _mm512_load_si512(at.add(half).cast()));
                        let steps = [lower::<L>(both, &mut down), upper::<L>(both, &mut up)];
                        for (later, weights) in steps.into_iter().enumerate() {
                            let step = sub_block * L::STEPS + later * L::LINES + line;
                            let to = to.add(LINE_BYTES * HALVES * step);
                            _mm512_store_si512(to.cast(), _mm512_add_epi8(weights[0], more));
                            _mm512_store_si512(to.add(LINE_BYTES).cast(), _mm512_add_epi8(weights[1], more));
                        }
                    }
                }
            }
        }
    }
}
