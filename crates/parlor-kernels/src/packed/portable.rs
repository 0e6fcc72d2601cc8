//! The product in plain loops, compiled for the widest registers of the machine.

use std::ops::Range;

use super::{BLOCK, Inputs, LANES, PAIR, Panels, STEP, lines};
use crate::BlockFormat;
use crate::simd::dispatch;

/// # Safety
/// None is needed: the signature is that of the other paths.
pub(super) unsafe fn run(panels: &Panels<'_>, x: &Inputs, rows: Range<usize>, sums: &mut [f32]) {
    dispatch(
        #[inline(always)]
        || {
            for half in 0..PAIR {
                panel(panels, half, x, &rows, sums);
            }
        },
    );
}

#[inline(always)]
fn panel(panels: &Panels<'_>, half: usize, x: &Inputs, rows: &Range<usize>, sums: &mut [f32]) {
    let per_block = lines(panels.format);
    for block in 0..x.columns() / BLOCK {
        let bytes: &[u8] =
            bytemuck::cast_slice(&panels.codes[half][block * per_block..(block + 1) * per_block]);
        let scales = &panels.scales[half][block * LANES..(block + 1) * LANES];
        let mut weights = [[[0i32; STEP]; LANES]; BLOCK / STEP];
        for (step, weights) in weights.iter_mut().enumerate() {
            for (lane, weights) in weights.iter_mut().enumerate() {
                for (byte, weight) in weights.iter_mut().enumerate() {
                    let at = |line: usize| i32::from(bytes[line * 64 + lane * STEP + byte]);
                    *weight = match panels.format {
                        BlockFormat::Q4_0 if step < 4 => at(step) & 15,
                        BlockFormat::Q4_0 => at(step - 4) >> 4,
                        _ => at(step),
                    };
                }
            }
        }
        let inputs = x.codes(block, rows).iter().zip(x.about(block, rows));
        for ((codes, about), sums) in inputs.zip(sums.chunks_exact_mut(PAIR * LANES)) {
            let mut integers = [about.start(panels.format); LANES];
            for (step, weights) in weights.iter().enumerate() {
                for (sum, weights) in integers.iter_mut().zip(weights) {
                    for byte in 0..STEP {
                        *sum += weights[byte] * i32::from(codes[step * STEP + byte]);
                    }
                }
            }
            for (lane, (sum, integer)) in sums[half * LANES..][..LANES].iter_mut().zip(integers).enumerate() {
                *sum = (integer as f32).mul_add(scales[lane].to_f32() * about.scale, *sum);
            }
        }
    }
}
