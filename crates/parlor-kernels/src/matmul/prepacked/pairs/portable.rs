//! The product of pairs in plain loops, compiled for the widest registers of the machine.

use half::bf16;

use super::Tile;
use crate::Write;
use crate::cpu::simd::round_to_bf16;
use crate::cpu::simd::{dispatch, multiply_add, widen};
use crate::matmul::prepacked::PANEL;

/// Rows of a tile, at most.
pub(super) const ROWS: usize = 4;

/// Rounds a row to pairs, the first column in the low half; the last of an odd number meets a zero.
///
/// # Safety
/// None is needed: the signature is that of the other paths.
pub(super) unsafe fn round(x: &[f32], pairs: &mut [u32]) {
    dispatch(
        #[inline(always)]
        || {
            let narrow = |x: f32| u32::from(bf16::from_f32(x).to_bits());
            let (twos, last) = x.as_chunks::<2>();
            for (pair, &[even, odd]) in pairs.iter_mut().zip(twos) {
                *pair = narrow(even) | narrow(odd) << 16;
            }
            if let (&[last], Some(pair)) = (last, pairs.last_mut()) {
                *pair = narrow(last);
            }
        },
    );
}

/// As [`round`], to the same numbers as f32.
///
/// # Safety
/// None is needed, as there.
pub(super) unsafe fn round_wide(x: &[f32], out: &mut [u32]) {
    out[x.len()..].fill(0);
    dispatch(
        #[inline(always)]
        || {
            for (out, &x) in out.iter_mut().zip(x) {
                *out = round_to_bf16(x).to_bits();
            }
        },
    );
}

/// The two numbers of a pair.
#[inline(always)]
fn both(pair: u32) -> [f32; 2] {
    [widen(bf16::from_bits(pair as u16)), f32::from_bits(pair & 0xFFFF_0000)]
}

/// # Safety
/// The operands hold what the tile says, and the result's part is the caller's alone.
pub(super) unsafe fn tile(tile: Tile) {
    dispatch(
        #[inline(always)]
        || {
            let mut sums = [[0.0f32; PANEL]; ROWS];
            for step in 0..tile.steps {
                // SAFETY: the panel has this step.
                let right = unsafe { std::slice::from_raw_parts(tile.right.add(step * PANEL), PANEL) };
                for (row, sums) in sums.iter_mut().enumerate().take(tile.rows) {
                    // SAFETY: the row has this step.
                    let [even, odd] = both(unsafe { *tile.left.add(row * tile.stride + step) });
                    for (sum, &pair) in sums.iter_mut().zip(right) {
                        let [low, high] = both(pair);
                        *sum = multiply_add(low, even, *sum);
                        *sum = multiply_add(high, odd, *sum);
                    }
                }
            }
            for (row, sums) in sums.iter().enumerate().take(tile.rows) {
                // SAFETY: the contract of the caller.
                unsafe { store(&tile, row, sums) };
            }
        },
    );
}

/// Writes the sums of a row, those that are outputs.
///
/// # Safety
/// As [`Tile`] says.
#[inline(always)]
pub(super) unsafe fn store(tile: &Tile, row: usize, sums: &[f32; PANEL]) {
    for (column, &sum) in sums.iter().enumerate().take(tile.columns) {
        // SAFETY: the element lies in the tile's part of the result, and the bias has a value for it.
        unsafe {
            let to = tile.to.add(row * tile.outputs + column);
            let before = if tile.write == Write::Accumulate { *to } else { 0.0 };
            let bias = if tile.bias.is_null() { 0.0 } else { *tile.bias.add(column) };
            *to = before + (sum + bias);
        }
    }
}
