//! The product in plain loops, compiled for the widest registers of the machine.

use std::ops::Range;

use super::{BLOCK, HALVES, Inputs, LANES, PANEL, Panel, STEP, lines};
use crate::BlockFormat;
use crate::simd::dispatch;

/// # Safety
/// None is needed: the signature is that of the other paths.
pub(super) unsafe fn run(panel: &Panel<'_>, x: &Inputs, rows: Range<usize>, sums: &mut [f32]) {
    dispatch(
        #[inline(always)]
        || {
            for half in 0..HALVES {
                half_panel(panel, half, x, &rows, sums);
            }
        },
    );
}

#[inline(always)]
fn half_panel(panel: &Panel<'_>, half: usize, x: &Inputs, rows: &Range<usize>, sums: &mut [f32]) {
    let per_block = lines(panel.format);
    for block in 0..x.columns() / BLOCK {
        let bytes: &[u8] =
            bytemuck::cast_slice(&panel.codes[(block * HALVES + half) * per_block..][..per_block]);
        let scales = &panel.scales[block * PANEL + half * LANES..][..LANES];
        let mut weights = [[[0i32; STEP]; LANES]; BLOCK / STEP];
        for (step, weights) in weights.iter_mut().enumerate() {
            for (lane, weights) in weights.iter_mut().enumerate() {
                for (byte, weight) in weights.iter_mut().enumerate() {
                    let at = |line: usize| i32::from(bytes[line * 64 + lane * STEP + byte]);
                    *weight = match panel.format {
                        BlockFormat::Q4_0 if step < 4 => at(step) & 15,
                        BlockFormat::Q4_0 => at(step - 4) >> 4,
                        _ => at(step),
                    };
                }
            }
        }
        let inputs = x.codes(block, rows).iter().zip(x.about(block, rows));
        for ((codes, about), sums) in inputs.zip(sums.chunks_exact_mut(PANEL)) {
            let mut integers = [about.start(panel.format); LANES];
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
