//! Scales and minima of 16 lanes.

use std::arch::aarch64::*;
use std::arch::asm;

use super::registers::QUADS;
use crate::memory::prepacked::layout::{LANES, LINE_BYTES, PANEL, ScaleKind, StaticLayout};

/// The scales of half a panel in a sub-block.
///
/// # Safety
/// The interleaved is there, and its block.
#[inline(always)]
pub(super) unsafe fn scales_of<L: StaticLayout>(
    interleaved: *const u8,
    own: *const u8,
    half: usize,
    sub_block: usize,
) -> [float32x4_t; QUADS] {
    // SAFETY: the contract of the caller.
    unsafe {
        match L::LAYOUT.scale_kind() {
            ScaleKind::PerBlock | ScaleKind::PerBlockWithMin => f16_line(own, half),
            ScaleKind::SuperBlock => scaled(f16_line(interleaved, half), unsigned(own.add(half * LANES))),
            ScaleKind::SuperBlockOfHalves => {
                scaled(f16_line(interleaved, half), signed(own.add(sub_block * PANEL + half * LANES)))
            }
            ScaleKind::PerTwoBlocks => {
                let line: *const f32 = interleaved.add(LINE_BYTES * half * L::LAYOUT.block_lines()).cast();
                [0, 4, 8, 12].map(|at| vld1q_f32(line.add(at)))
            }
        }
    }
}

/// The minima of half a panel.
///
/// # Safety
/// As [`scales_of`].
#[inline(always)]
pub(super) unsafe fn mins_of<L: StaticLayout>(
    interleaved: *const u8,
    own: *const u8,
    half: usize,
) -> [float32x4_t; QUADS] {
    // SAFETY: the contract of the caller.
    unsafe {
        if matches!(L::LAYOUT.scale_kind(), ScaleKind::PerBlockWithMin) {
            return f16_line(own.add(LINE_BYTES), half);
        }
        scaled(f16_line(interleaved.add(LINE_BYTES), half), unsigned(own.add(PANEL + half * LANES)))
    }
}

#[inline(always)]
fn scaled(factors: [float32x4_t; QUADS], own: [float32x4_t; QUADS]) -> [float32x4_t; QUADS] {
    // SAFETY: every processor of the architecture has this.
    std::array::from_fn(|quad| unsafe { vmulq_f32(factors[quad], own[quad]) })
}

/// 16 f16 of a line, widened.
///
/// # Safety
/// The line is there.
#[inline(always)]
unsafe fn f16_line(line: *const u8, half: usize) -> [float32x4_t; QUADS] {
    [0, 4, 8, 12].map(|lane| {
        let wide: float32x4_t;
        // SAFETY: the contract of the caller; the instruction reads and writes the registers it is given.
        unsafe {
            let own = vld1_u16(line.cast::<u16>().add(half * LANES + lane));
            asm!(
                "fcvtl {wide:v}.4s, {own:v}.4h",
                wide = out(vreg) wide,
                own = in(vreg) own,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
        wide
    })
}

/// 16 unsigned bytes, widened.
///
/// # Safety
/// They are there.
#[inline(always)]
unsafe fn unsigned(at: *const u8) -> [float32x4_t; QUADS] {
    // SAFETY: the contract of the caller.
    unsafe {
        let bytes = vld1q_u8(at);
        let [low, high] = [vmovl_u8(vget_low_u8(bytes)), vmovl_high_u8(bytes)];
        [
            vmovl_u16(vget_low_u16(low)),
            vmovl_high_u16(low),
            vmovl_u16(vget_low_u16(high)),
            vmovl_high_u16(high),
        ]
        .map(|own| vcvtq_f32_u32(own))
    }
}

/// 16 signed bytes, widened.
///
/// # Safety
/// They are there.
#[inline(always)]
unsafe fn signed(at: *const u8) -> [float32x4_t; QUADS] {
    // SAFETY: the contract of the caller.
    unsafe {
        let bytes = vld1q_s8(at.cast());
        let [low, high] = [vmovl_s8(vget_low_s8(bytes)), vmovl_high_s8(bytes)];
        [
            vmovl_s16(vget_low_s16(low)),
            vmovl_high_s16(low),
            vmovl_s16(vget_low_s16(high)),
            vmovl_high_s16(high),
        ]
        .map(|own| vcvtq_f32_s32(own))
    }
}
