//! What sums are multiplied by, and what is taken from them, 16 lanes at a time.

use std::arch::aarch64::*;
use std::arch::asm;

use super::QUADS;
use crate::matmul::prepacked::order::{Kind, Scaling};
use crate::matmul::prepacked::{LANES, LINE, PANEL};

/// What the sums of a fold of a half's lanes are multiplied by.
///
/// # Safety
/// The record is there, and its block.
#[inline(always)]
pub(super) unsafe fn scales_of<K: Kind>(
    record: *const u8,
    own: *const u8,
    half: usize,
    fold: usize,
) -> [float32x4_t; QUADS] {
    // SAFETY: the contract of the caller.
    unsafe {
        match K::ORDER.scaling() {
            Scaling::One | Scaling::Two => halves(own, half),
            Scaling::Groups => scaled(halves(record, half), unsigned(own.add(half * LANES))),
            Scaling::Halves => scaled(halves(record, half), signed(own.add(fold * PANEL + half * LANES))),
            Scaling::Wide => {
                let line: *const f32 = record.add(LINE * half * K::ORDER.block_lines()).cast();
                [0, 4, 8, 12].map(|at| vld1q_f32(line.add(at)))
            }
        }
    }
}

/// What is taken from each column of a half's lanes.
///
/// # Safety
/// As [`scales_of`].
#[inline(always)]
pub(super) unsafe fn offsets_of<K: Kind>(
    record: *const u8,
    own: *const u8,
    half: usize,
) -> [float32x4_t; QUADS] {
    // SAFETY: the contract of the caller.
    unsafe {
        if matches!(K::ORDER.scaling(), Scaling::Two) {
            return halves(own.add(LINE), half);
        }
        scaled(halves(record.add(LINE), half), unsigned(own.add(PANEL + half * LANES)))
    }
}

#[inline(always)]
fn scaled(factors: [float32x4_t; QUADS], own: [float32x4_t; QUADS]) -> [float32x4_t; QUADS] {
    // SAFETY: every processor of the architecture has this.
    std::array::from_fn(|quad| unsafe { vmulq_f32(factors[quad], own[quad]) })
}

/// The f16 of a half of a line.
///
/// # Safety
/// The line is there.
#[inline(always)]
unsafe fn halves(line: *const u8, half: usize) -> [float32x4_t; QUADS] {
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

/// 16 bytes without a sign.
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

/// 16 bytes with one.
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
