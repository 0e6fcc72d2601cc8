//! The product in plain loops, compiled for the widest registers of the machine.

use super::integers::{Sums, Tile};
use super::{BLOCK, HALVES, LANES, Order, STEP};
use crate::simd::dispatch;

/// Input rows of a tile, at most.
pub(super) const ROWS: usize = 4;

/// # Safety
/// The sums are the caller's alone.
pub(super) unsafe fn tile(tile: Tile<'_>, sums: Sums) {
    // SAFETY: the contract of the caller.
    let mut rows: [&mut [f32]; ROWS] =
        std::array::from_fn(|row| if row < sums.rows { unsafe { sums.begin(row) } } else { &mut [] });
    dispatch(
        #[inline(always)]
        || {
            for half in 0..HALVES {
                half_panel(&tile, half, &mut rows[..sums.rows]);
            }
        },
    );
}

#[inline(always)]
fn half_panel(tile: &Tile<'_>, half: usize, sums: &mut [&mut [f32]]) {
    for (index, record) in tile.records().enumerate() {
        let (scales, offsets) = record.scales(half);
        let mut weights = [[[0i32; STEP]; LANES]; BLOCK / STEP];
        for (step, weights) in weights.iter_mut().enumerate() {
            for (lane, weights) in weights.iter_mut().enumerate() {
                for (byte, weight) in weights.iter_mut().enumerate() {
                    let at = |line: usize| i32::from(record.codes(half, line)[lane * STEP + byte]);
                    *weight = match tile.order {
                        Order::Bytes | Order::Pairs => at(step),
                        _ if step < 4 => at(step) & 15,
                        _ => at(step - 4) >> 4,
                    };
                }
            }
        }
        for (row, sums) in sums.iter_mut().enumerate() {
            let at = row * tile.stride + index;
            let (codes, about) = (&tile.codes[at], tile.about[at]);
            let mut integers = [tile.start(about); LANES];
            for (step, weights) in weights.iter().enumerate() {
                for (sum, weights) in integers.iter_mut().zip(weights) {
                    for byte in 0..STEP {
                        *sum += weights[byte] * i32::from(codes[step * STEP + byte]);
                    }
                }
            }
            let sums = &mut sums[half * LANES..][..LANES];
            for (lane, (sum, integer)) in sums.iter_mut().zip(integers).enumerate() {
                *sum = (integer as f32).mul_add(scales[lane] * about.scale, *sum);
            }
            if let Some(offsets) = offsets {
                for (sum, offset) in sums.iter_mut().zip(offsets) {
                    *sum = offset.mul_add(about.minus_total(), *sum);
                }
            }
        }
    }
}
