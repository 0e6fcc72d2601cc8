//! Three instructions that multiply weights by activations. Inline assembly, because the intrinsics are not stable yet.

use std::arch::aarch64::*;
use std::arch::asm;

use super::registers::{Integers, QUADS, Weights};

/// A way to multiply lanes by activations.
pub(super) trait Multiply {
    /// Rows that are computed together.
    const TOGETHER: usize;

    /// Adds the products of two steps, one after the other in the activations at `quants`.
    ///
    /// # Safety
    /// The instructions are there, and eight bytes at each of `quants`.
    unsafe fn add<const R: usize>(sums: &mut [Integers; R], weights: [Weights; 2], quants: [*const i8; R]);

    /// The sums of rows.
    fn done<const R: usize>(sums: [Integers; R]) -> [Integers; R] {
        sums
    }
}

/// With what every processor of the architecture has.
pub(super) struct Plain;
/// With `sdot`.
pub(super) struct Dots;
/// With `smmla`.
pub(super) struct Matrices;

impl Multiply for Plain {
    const TOGETHER: usize = 1;

    #[inline(always)]
    unsafe fn add<const R: usize>(sums: &mut [Integers; R], weights: [Weights; 2], quants: [*const i8; R]) {
        // SAFETY: the contract of the caller; every processor of the architecture has these instructions. No sum of two products
        // overflows: a quant is -127 to 127.
        unsafe {
            row_by_row(sums, weights, quants, |sum, weights, x| {
                let low = vmull_s8(vget_low_s8(weights), vget_low_s8(x));
                vpadalq_s16(sum, vpaddq_s16(low, vmull_high_s8(weights, x)))
            });
        }
    }
}

impl Multiply for Dots {
    const TOGETHER: usize = 1;

    #[inline(always)]
    unsafe fn add<const R: usize>(sums: &mut [Integers; R], weights: [Weights; 2], quants: [*const i8; R]) {
        // SAFETY: the contract of the caller; the instruction reads and writes the registers it is given.
        unsafe {
            row_by_row(sums, weights, quants, |mut sum, weights, x| {
                asm!(
                    ".arch_extension dotprod",
                    "sdot {sum:v}.4s, {weights:v}.16b, {x:v}.16b",
                    sum = inout(vreg) sum,
                    weights = in(vreg) weights,
                    x = in(vreg) x,
                    options(pure, nomem, nostack, preserves_flags),
                );
                sum
            });
        }
    }
}

/// Adds products by `dot`, which adds those of four lanes by four columns of one row.
///
/// # Safety
/// Eight bytes are at each of `quants`.
#[inline(always)]
unsafe fn row_by_row<const R: usize>(
    sums: &mut [Integers; R],
    weights: [Weights; 2],
    quants: [*const i8; R],
    dot: impl Fn(int32x4_t, int8x16_t, int8x16_t) -> int32x4_t,
) {
    for (step, weights) in weights.into_iter().enumerate() {
        for (sums, quants) in sums.iter_mut().zip(quants) {
            // SAFETY: the contract of the caller.
            let x = unsafe { four(quants, step) };
            for (sum, weights) in sums.iter_mut().zip(weights) {
                *sum = dot(*sum, weights, x);
            }
        }
    }
}

impl Multiply for Matrices {
    const TOGETHER: usize = 2;

    #[inline(always)]
    unsafe fn add<const R: usize>(sums: &mut [Integers; R], weights: [Weights; 2], quants: [*const i8; R]) {
        let [first, second] = weights;
        for quad in 0..QUADS {
            // SAFETY: the contract of the caller; the instruction reads and writes the registers it is given.
            unsafe {
                // Eight columns of lanes 0 and 1, and of 2 and 3.
                let (a, b) = (vreinterpretq_s32_s8(first[quad]), vreinterpretq_s32_s8(second[quad]));
                let lanes = [vzip1q_s32(a, b), vzip2q_s32(a, b)];
                for (sums, quants) in sums.chunks_exact_mut(2).zip(quants.chunks_exact(2)) {
                    let x = vcombine_s8(vld1_s8(quants[0]), vld1_s8(quants[1]));
                    for (sums, lanes) in sums.iter_mut().zip(lanes) {
                        asm!(
                            ".arch_extension i8mm",
                            "smmla {sum:v}.4s, {x:v}.16b, {lanes:v}.16b",
                            sum = inout(vreg) sums[quad],
                            lanes = in(vreg) lanes,
                            x = in(vreg) x,
                            options(pure, nomem, nostack, preserves_flags),
                        );
                    }
                }
            }
        }
    }

    /// Two rows of lanes 0 and 1, and of 2 and 3, become four lanes of either row.
    #[inline(always)]
    fn done<const R: usize>(mut sums: [Integers; R]) -> [Integers; R] {
        for pair in sums.chunks_exact_mut(2) {
            for quad in 0..QUADS {
                // SAFETY: every processor of the architecture has these.
                let [low, high] = unsafe { [pair[0][quad], pair[1][quad]].map(|x| vreinterpretq_s64_s32(x)) };
                // SAFETY: as above.
                unsafe {
                    pair[0][quad] = vreinterpretq_s32_s64(vzip1q_s64(low, high));
                    pair[1][quad] = vreinterpretq_s32_s64(vzip2q_s64(low, high));
                }
            }
        }
        sums
    }
}

/// Broadcasts four bytes of the activations to every lane.
///
/// # Safety
/// They are there, at any address.
#[inline(always)]
unsafe fn four(quants: *const i8, step: usize) -> int8x16_t {
    // SAFETY: the contract of the caller.
    unsafe { vreinterpretq_s8_s32(vdupq_n_s32(quants.cast::<i32>().add(step).read_unaligned())) }
}
