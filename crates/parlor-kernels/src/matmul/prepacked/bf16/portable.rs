//! The bf16 kernel in plain loops, compiled for the widest registers in use.

use half::bf16;

use super::tile::Bf16Tile;
use crate::cpu::simd::{dispatch, multiply_add, round_to_bf16, widen};
use crate::matmul::write::Write;
use crate::memory::prepacked::layout::PANEL;

/// Rows of a tile, at most.
pub(crate) const MR: usize = 4;

/// Rounds a row to bf16 pairs, the first column in the low half; an odd last column is paired with a zero.
///
/// # Safety
/// None: the signature is that of the other kernels.
pub(crate) unsafe fn round(x: &[f32], pairs: &mut [u32]) {
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

/// As [`round`], but to f32.
///
/// # Safety
/// None, as there.
pub(crate) unsafe fn round_to_f32(x: &[f32], out: &mut [u32]) {
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
/// The operands hold what the tile says, and the result's task is the caller's alone.
pub(crate) unsafe fn tile(tile: Bf16Tile) {
    dispatch(
        #[inline(always)]
        || {
            let mut sums = [[0.0f32; PANEL]; MR];
            for step in 0..tile.steps {
                // SAFETY: the panel has this step.
                let panel = unsafe { std::slice::from_raw_parts(tile.panel.add(step * PANEL), PANEL) };
                for (row, sums) in sums.iter_mut().enumerate().take(tile.rows) {
                    // SAFETY: the row has this step.
                    let [even, odd] = both(unsafe { *tile.x.add(row * tile.stride + step) });
                    for (sum, &pair) in sums.iter_mut().zip(panel) {
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

/// Stores the sums of a row, those that are outputs.
///
/// # Safety
/// As [`Bf16Tile`] says.
#[inline(always)]
pub(crate) unsafe fn store(tile: &Bf16Tile, row: usize, sums: &[f32; PANEL]) {
    for (column, &sum) in sums.iter().enumerate().take(tile.columns) {
        // SAFETY: the element lies in the tile's task of the result, and the bias has a value for it.
        unsafe {
            let to = tile.to.add(row * tile.outputs + column);
            let before = if tile.write == Write::Accumulate { *to } else { 0.0 };
            let bias = if tile.bias.is_null() { 0.0 } else { *tile.bias.add(column) };
            *to = before + (sum + bias);
        }
    }
}
