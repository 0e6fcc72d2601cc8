//! The kernel in plain Rust: f32 panels, a tile of 6 x 16, which compilers turn into vector code of any width.
//!
//! `body` functions are inlined into functions that are compiled for one instruction set (see `path.rs`).

use super::kernel::{BUNDLE, Kernel, Panels, Rounding, Rows, Tile};
use crate::cpu::simd::multiply_add;
use crate::cpu::simd::round_to_bf16;

const ROWS: usize = 6;
const COLUMNS: usize = 16;

/// For every machine.
pub(crate) struct Portable;

impl Kernel for Portable {
    type Element = f32;
    const ROWS: usize = ROWS;
    const LEFT: usize = BUNDLE;
    const COLUMNS: usize = COLUMNS;
    const GROUP: usize = 1;
    const NEAR: usize = 8;

    unsafe fn tile(steps: usize, left: *const f32, right: *const f32, tile: Tile) {
        // SAFETY: the contract of the caller.
        unsafe { tile_body(steps, left, right, tile) }
    }

    unsafe fn pack_across(rows: Rows<'_>, layout: Panels, rounding: Rounding, out: &mut [f32]) {
        pack_across_body(rows, layout, rounding, out);
    }

    unsafe fn pack_along(
        rows: Rows<'_>,
        first_step: usize,
        layout: Panels,
        rounding: Rounding,
        out: &mut [f32],
    ) {
        pack_along_body(rows, first_step, layout, rounding, out);
    }
}

/// # Safety
/// As [`Kernel::tile`].
#[inline(always)]
pub(crate) unsafe fn tile_body(steps: usize, left: *const f32, right: *const f32, tile: Tile) {
    // SAFETY: both panels hold `steps` steps.
    let (left, right) = unsafe {
        (std::slice::from_raw_parts(left, steps * BUNDLE), std::slice::from_raw_parts(right, steps * COLUMNS))
    };
    let mut sums = [[0.0f32; COLUMNS]; ROWS];
    for (left, right) in left.chunks_exact(BUNDLE).zip(right.chunks_exact(COLUMNS)) {
        for row in 0..ROWS {
            for column in 0..COLUMNS {
                sums[row][column] = multiply_add(left[row], right[column], sums[row][column]);
            }
        }
    }
    for (row, sums) in sums.iter().enumerate().take(tile.rows) {
        let mut sums = *sums;
        if !tile.from.is_null() {
            // SAFETY: the row lies in what the tile is added to.
            let from = unsafe { std::slice::from_raw_parts(tile.from.add(row * tile.stride), tile.columns) };
            sums.iter_mut().zip(from).for_each(|(sum, from)| *sum += from);
        }
        // SAFETY: the row lies in the tile, which is ours.
        let to = unsafe { std::slice::from_raw_parts_mut(tile.to.add(row * tile.stride), tile.columns) };
        for (to, sum) in to.iter_mut().zip(&sums) {
            *to = *sum;
        }
    }
}

#[inline(always)]
pub(crate) fn pack_across_body(rows: Rows<'_>, layout: Panels, rounding: Rounding, out: &mut [f32]) {
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
    rows: Rows<'_>,
    first_step: usize,
    layout: Panels,
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
