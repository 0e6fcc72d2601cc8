//! The int8 kernel in plain loops, compiled for the widest registers in use.

use super::tile::{Accumulators, Int8Tile};
use crate::cpu::simd::dispatch;
use crate::memory::prepacked::block::InterleavedBlock;
use crate::memory::prepacked::layout::{BLOCK, HALVES, LANES, STEP, StaticLayout, with_layout};

/// Activation rows of a tile, at most.
pub(crate) const MR: usize = 4;

/// # Safety
/// The sums are the caller's alone.
pub(crate) unsafe fn tile(tile: Int8Tile<'_>, sums: Accumulators) {
    // SAFETY: the contract of the caller.
    let mut rows: [&mut [f32]; MR] =
        std::array::from_fn(|row| if row < sums.rows { unsafe { sums.begin(row) } } else { &mut [] });
    dispatch(
        #[inline(always)]
        || {
            let rows = &mut rows[..sums.rows];
            with_layout!(tile.layout, L => panels::<L>(&tile, rows));
        },
    );
}

#[inline(always)]
fn panels<L: StaticLayout>(tile: &Int8Tile<'_>, sums: &mut [&mut [f32]]) {
    for half in 0..HALVES {
        half_panel::<L>(tile, half * LANES, sums);
    }
}

/// The lanes from `first` on.
#[inline(always)]
fn half_panel<L: StaticLayout>(tile: &Int8Tile<'_>, first: usize, sums: &mut [&mut [f32]]) {
    let (sub_blocks, has_mins) = (L::LAYOUT.sub_blocks(), L::LAYOUT.has_mins());
    for (index, block) in InterleavedBlock::all(L::LAYOUT, tile.lines).enumerate() {
        let mut weights = [[[0i32; STEP]; LANES]; BLOCK / STEP];
        for (step, weights) in weights.iter_mut().enumerate() {
            for (lane, weights) in weights.iter_mut().enumerate() {
                for (byte, weight) in weights.iter_mut().enumerate() {
                    *weight = block.quant(first + lane, step * STEP + byte);
                }
            }
        }
        let scales: [[f32; LANES]; 2] = std::array::from_fn(|sub_block| {
            std::array::from_fn(|lane| block.scale(first + lane, sub_block % sub_blocks))
        });
        let mins: [f32; LANES] = std::array::from_fn(|lane| block.min(first + lane).unwrap_or(0.0));
        for (row, sums) in sums.iter_mut().enumerate() {
            let at = row * tile.stride + index;
            let (quants, q8) = (&tile.quants[at], tile.q8[at]);
            let sums = &mut sums[first..][..LANES];
            let parts = weights.chunks_exact(L::STEPS).zip(quants.chunks_exact(L::STEPS * STEP));
            for ((weights, quants), scales) in parts.zip(&scales) {
                let mut integers = [0; LANES];
                for (weights, quants) in weights.iter().zip(quants.chunks_exact(STEP)) {
                    for (sum, weights) in integers.iter_mut().zip(weights) {
                        for byte in 0..STEP {
                            *sum += weights[byte] * i32::from(quants[byte]);
                        }
                    }
                }
                for ((sum, integer), scale) in sums.iter_mut().zip(integers).zip(scales) {
                    *sum = (integer as f32).mul_add(scale * q8.scale, *sum);
                }
            }
            if has_mins {
                for (sum, min) in sums.iter_mut().zip(mins) {
                    *sum = min.mul_add(q8.minus_scaled_sum, *sum);
                }
            }
        }
    }
}
