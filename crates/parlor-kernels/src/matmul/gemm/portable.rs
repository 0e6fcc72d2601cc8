//! The microkernel in plain Rust, MR x NR = 6 x 16 f32, which the compiler vectorizes for the target's baseline instruction set.

use super::microkernel::{Microkernel, OutputTile, PACK_LANES, PanelLayout, Rounding, StridedRows};
use crate::cpu::simd::{multiply_add, round_to_bf16};

const MR: usize = 6;
const NR: usize = 16;

/// For every processor.
pub(crate) struct Portable;

impl Microkernel for Portable {
    type Element = f32;
    const MR: usize = MR;
    const A_LANES: usize = PACK_LANES;
    const NR: usize = NR;
    const K_PER_LANE: usize = 1;
    const RESIDENT_PANELS: usize = 8;

    unsafe fn compute(steps: usize, a: *const f32, b: *const f32, tile: OutputTile) {
        // SAFETY: the contract of the caller.
        unsafe { tile_body(steps, a, b, tile) }
    }

    unsafe fn pack_k_contiguous(
        rows: StridedRows<'_>,
        layout: PanelLayout,
        rounding: Rounding,
        out: &mut [f32],
    ) {
        pack_across_body(rows, layout, rounding, out);
    }

    unsafe fn pack_mn_contiguous(
        rows: StridedRows<'_>,
        first_step: usize,
        layout: PanelLayout,
        rounding: Rounding,
        out: &mut [f32],
    ) {
        pack_along_body(rows, first_step, layout, rounding, out);
    }
}

/// # Safety
/// As [`Microkernel::compute`].
#[inline(always)]
pub(crate) unsafe fn tile_body(steps: usize, a: *const f32, b: *const f32, tile: OutputTile) {
    // SAFETY: both panels hold `steps` steps.
    let (a, b) = unsafe {
        (std::slice::from_raw_parts(a, steps * PACK_LANES), std::slice::from_raw_parts(b, steps * NR))
    };
    let mut sums = [[0.0f32; NR]; MR];
    for (a, b) in a.chunks_exact(PACK_LANES).zip(b.chunks_exact(NR)) {
        for row in 0..MR {
            for column in 0..NR {
                sums[row][column] = multiply_add(a[row], b[column], sums[row][column]);
            }
        }
    }
    for (row, sums) in sums.iter().enumerate().take(tile.rows) {
        let mut sums = *sums;
        if !tile.addend.is_null() {
            // SAFETY: the row lies in the addend.
            let addend =
                unsafe { std::slice::from_raw_parts(tile.addend.add(row * tile.stride), tile.columns) };
            sums.iter_mut().zip(addend).for_each(|(sum, addend)| *sum += addend);
        }
        // SAFETY: the row lies in the tile, which is ours.
        let to = unsafe { std::slice::from_raw_parts_mut(tile.to.add(row * tile.stride), tile.columns) };
        for (to, sum) in to.iter_mut().zip(&sums) {
            *to = *sum;
        }
    }
}

#[inline(always)]
pub(crate) fn pack_across_body(
    rows: StridedRows<'_>,
    layout: PanelLayout,
    rounding: Rounding,
    out: &mut [f32],
) {
    let panels = out.chunks_exact_mut(layout.len()).take(rows.count.div_ceil(layout.used));
    for (index, panel) in panels.enumerate() {
        for lane in 0..layout.stride {
            let row = index * layout.used + lane;
            let steps = panel.chunks_exact_mut(layout.stride).take(rows.width);
            if lane >= layout.used || row >= rows.count {
                steps.for_each(|step| step[lane] = 0.0);
                continue;
            }
            let steps = steps.zip(rows.part(row, 0, rows.width));
            match rounding {
                Rounding::None => steps.for_each(|(step, &x)| step[lane] = x),
                Rounding::Bf16 => steps.for_each(|(step, &x)| step[lane] = round_to_bf16(x)),
            }
        }
    }
}

#[inline(always)]
pub(crate) fn pack_along_body(
    rows: StridedRows<'_>,
    first_step: usize,
    layout: PanelLayout,
    rounding: Rounding,
    out: &mut [f32],
) {
    for row in 0..rows.count {
        let panels = out.chunks_exact_mut(layout.len()).take(rows.width.div_ceil(layout.used));
        for (index, panel) in panels.enumerate() {
            let values = rows.part(row, index * layout.used, (index + 1) * layout.used);
            let step = &mut panel[(first_step + row) * layout.stride..][..layout.stride];
            let (to, unused) = step.split_at_mut(values.len());
            match rounding {
                Rounding::None => to.copy_from_slice(values),
                Rounding::Bf16 => to.iter_mut().zip(values).for_each(|(to, &x)| *to = round_to_bf16(x)),
            }
            unused.fill(0.0);
        }
    }
}
