//! The bf16 kernel with NEON, in f32: up to 3 rows by 32 outputs, whose sums take 24 of 32 registers. Activations come as f32 rounded to
//! bf16.

use std::arch::aarch64::*;

use super::portable;
use super::tile::Bf16Tile;
use crate::memory::prepacked::layout::PANEL;

/// Rows of a tile, at most.
pub(crate) const MR: usize = 3;
/// Lanes of a register, and registers of a panel's step.
const QUAD: usize = 4;
const QUADS: usize = PANEL / QUAD;

/// # Safety
/// As [`Bf16Tile`] says.
pub(crate) unsafe fn tile(tile: Bf16Tile) {
    macro_rules! by_rows {
        ($($rows:literal)*) => {
            match tile.rows {
                // SAFETY: the contract of the caller.
                $($rows => unsafe { tile_of::<$rows>(tile) },)*
                _ => unreachable!("a tile of {} rows", tile.rows),
            }
        };
    }
    by_rows!(1 2 3);
}

/// # Safety
/// As [`tile`], with `R` rows.
unsafe fn tile_of<const R: usize>(tile: Bf16Tile) {
    let (mut x_row, mut panel): (*const f32, *const u32) = (tile.x.cast(), tile.panel);
    // SAFETY: the pointers walk over the steps of the operands.
    unsafe {
        let mut sums = [[vdupq_n_f32(0.0); QUADS]; R];
        for _ in 0..tile.steps {
            for quad in 0..QUADS {
                let pairs = vld1q_u32(panel.add(quad * QUAD));
                let even = vreinterpretq_f32_u32(vshlq_n_u32::<16>(pairs));
                let odd = vreinterpretq_f32_u32(vandq_u32(pairs, vdupq_n_u32(0xFFFF_0000)));
                for (row, sums) in sums.iter_mut().enumerate() {
                    let x = x_row.add(row * tile.stride);
                    sums[quad] = vfmaq_n_f32(sums[quad], even, *x);
                    sums[quad] = vfmaq_n_f32(sums[quad], odd, *x.add(1));
                }
            }
            x_row = x_row.add(2);
            panel = panel.add(PANEL);
        }
        for (row, sums) in sums.into_iter().enumerate() {
            let mut own = [0.0; PANEL];
            for (quad, sum) in sums.into_iter().enumerate() {
                vst1q_f32(own[quad * QUAD..].as_mut_ptr(), sum);
            }
            portable::store(&tile, row, &own);
        }
    }
}
