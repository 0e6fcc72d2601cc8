//! The product in plain loops, compiled for the widest registers of the machine.

use super::integers::{Sums, Tile};
use super::order::{Kind, Order, by_kind, kinds};
use super::record::Block;
use super::{BLOCK, HALVES, LANES, STEP};
use crate::cpu::simd::dispatch;

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
            let rows = &mut rows[..sums.rows];
            by_kind!(tile.order, K => panels::<K>(&tile, rows));
        },
    );
}

#[inline(always)]
fn panels<K: Kind>(tile: &Tile<'_>, sums: &mut [&mut [f32]]) {
    for half in 0..HALVES {
        half_panel::<K>(tile, half * LANES, sums);
    }
}

/// The lanes from `first` on.
#[inline(always)]
fn half_panel<K: Kind>(tile: &Tile<'_>, first: usize, sums: &mut [&mut [f32]]) {
    let (folds, offset) = (K::ORDER.folds(), K::ORDER.has_offsets());
    for (index, block) in Block::all(K::ORDER, tile.lines).enumerate() {
        let mut weights = [[[0i32; STEP]; LANES]; BLOCK / STEP];
        for (step, weights) in weights.iter_mut().enumerate() {
            for (lane, weights) in weights.iter_mut().enumerate() {
                for (byte, weight) in weights.iter_mut().enumerate() {
                    *weight = block.level(first + lane, step * STEP + byte);
                }
            }
        }
        let scales: [[f32; LANES]; 2] =
            std::array::from_fn(|fold| std::array::from_fn(|lane| block.scale(first + lane, fold % folds)));
        let offsets: [f32; LANES] = std::array::from_fn(|lane| block.offset(first + lane).unwrap_or(0.0));
        for (row, sums) in sums.iter_mut().enumerate() {
            let at = row * tile.stride + index;
            let (codes, about) = (&tile.codes[at], tile.about[at]);
            let sums = &mut sums[first..][..LANES];
            let parts = weights.chunks_exact(K::STEPS).zip(codes.chunks_exact(K::STEPS * STEP));
            for ((weights, codes), scales) in parts.zip(&scales) {
                let mut integers = [0; LANES];
                for (weights, codes) in weights.iter().zip(codes.chunks_exact(STEP)) {
                    for (sum, weights) in integers.iter_mut().zip(weights) {
                        for byte in 0..STEP {
                            *sum += weights[byte] * i32::from(codes[byte]);
                        }
                    }
                }
                for ((sum, integer), scale) in sums.iter_mut().zip(integers).zip(scales) {
                    *sum = (integer as f32).mul_add(scale * about.scale, *sum);
                }
            }
            if offset {
                for (sum, offset) in sums.iter_mut().zip(offsets) {
                    *sum = offset.mul_add(about.minus_total, *sum);
                }
            }
        }
    }
}
