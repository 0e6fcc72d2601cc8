//! The loops around an int8 kernel.

use std::ops::Range;

use super::activations::QuantizedActivations;
use super::tile::{Accumulators, Int8Kernel, Int8Tile};
use crate::matmul::prepacked::task::{PanelTask, PrepackedOutput, tasks};
use crate::matmul::thresholds::{RESIDENT_BYTES, STREAMING_BLOCKS, STREAMING_ROWS, UNPACK_ROWS};
use crate::matmul::write::Write;
use crate::memory::prepacked::layout::{BLOCK, PANEL, PackedLayout};
use crate::memory::prepacked::storage::PanelGrid;
use crate::memory::scratch::{self, CacheLine, UNPACKED_QUANTS};
use crate::parallel::threads::parallel_for;

/// `y[rows, outputs] (+)= x W^T + bias` of quantized weights that share their activations.
///
/// # Panics
/// When `x`, a result or a bias does not fit its weight, or a weight is not quantized.
pub fn forward(kernel: Int8Kernel, x: &QuantizedActivations, outputs: &mut [PrepackedOutput<'_>]) {
    let is_quantized = |output: &PrepackedOutput<'_>| output.weight.grid().layout != PackedLayout::Bf16Pairs;
    assert!(outputs.iter().all(is_quantized), "quantized weights");
    if x.rows() > 0 {
        let tasks = tasks(x.rows(), x.columns(), outputs);
        parallel_for(tasks.len(), |index| compute(&tasks[index], kernel, x));
    }
}

/// As [`forward`] of `x`, `[rows, columns]`, quantized here.
pub(crate) fn quantize_and_forward(
    kernel: Int8Kernel,
    x: &[f32],
    columns: usize,
    outputs: &mut [PrepackedOutput<'_>],
) {
    QuantizedActivations::with(kernel, x, columns, |x| forward(kernel, x, outputs));
}

/// The products of a task.
fn compute(task: &PanelTask<'_>, kernel: Int8Kernel, x: &QuantizedActivations) {
    let stored = task.weight.grid();
    let unpack =
        kernel.unpack.filter(|_| x.rows() >= UNPACK_ROWS && stored.layout != stored.layout.as_int8());
    let grid =
        if unpack.is_some() { PanelGrid { layout: stored.layout.as_int8(), ..stored } } else { stored };
    let panel_bytes = grid.panel_lines() * size_of::<CacheLine>();
    let group = if x.rows() <= STREAMING_ROWS { 1 } else { (RESIDENT_BYTES / panel_bytes).max(1) };
    let mut sums = [0.0f32; STREAMING_ROWS * PANEL];
    for first in task.panels.clone().step_by(group) {
        let panels = first..(first + group).min(task.panels.end);
        task.weight.storage().with_panels(panels.clone(), |packed| {
            let Some(unpack) = unpack else {
                return multiply_panels(task, kernel, x, (panels, grid, packed), &mut sums);
            };
            scratch::with(
                &UNPACKED_QUANTS,
                panels.len() * grid.panel_lines(),
                |lines: &mut [CacheLine]| {
                    // SAFETY: the kernel is offered only where its instruction set is.
                    unsafe { unpack(stored.layout, packed, lines) };
                    multiply_panels(task, kernel, x, (panels, grid, lines), &mut sums);
                },
            );
        });
    }
}

/// The products of some panels; `sums` has room for those that are not accumulated in the result itself.
fn multiply_panels(
    task: &PanelTask<'_>,
    kernel: Int8Kernel,
    x: &QuantizedActivations,
    (panels, grid, packed): (Range<usize>, PanelGrid, &[CacheLine]),
    sums: &mut [f32; STREAMING_ROWS * PANEL],
) {
    let (rows, blocks, outputs) = (x.rows(), x.columns() / BLOCK, grid.rows);
    let tiles = rows.div_ceil(kernel.rows);
    let row_step = rows.div_ceil(tiles);
    let is_streaming = rows <= STREAMING_ROWS;
    let block_step = if rows > kernel.rows && is_streaming { STREAMING_BLOCKS } else { blocks };
    let (per_interleaved, lines) = (grid.layout.blocks(), grid.layout.lines());
    // Few rows: all of them over a few blocks, then over the next. Many: a tile of them over the whole panel.
    let together = if is_streaming { rows } else { row_step };
    for first in (0..rows).step_by(together) {
        for (panel, packed) in panels.clone().zip(packed.chunks_exact(grid.panel_lines())) {
            let rows = first..(first + together).min(rows);
            let columns = PANEL.min(outputs - panel * PANEL);
            let extent = (rows.len() - 1) * outputs + columns;
            let result = task.y.offset(rows.start * outputs + panel * PANEL, extent);
            // Sums are accumulated in the result itself when nothing is added to them.
            let direct = columns == PANEL && task.bias.is_none() && task.write == Write::Replace;
            let (to, stride) = if direct { (result, outputs) } else { (sums.as_mut_ptr(), PANEL) };
            for block in (0..blocks).step_by(block_step) {
                let end = (block + block_step).min(blocks);
                let packed = &packed[block / per_interleaved * lines..end / per_interleaved * lines];
                for row in rows.clone().step_by(row_step) {
                    let count = row_step.min(rows.end - row);
                    let to = to.wrapping_add((row - rows.start) * stride);
                    let prefetch = (result.wrapping_add((row - rows.start) * outputs).cast_const(), outputs);
                    let own = Accumulators { to, stride, rows: count, from_zero: block == 0, prefetch };
                    let at = row * blocks + block;
                    let tile = Int8Tile {
                        layout: grid.layout,
                        lines: packed,
                        quants: &x.quants()[at..],
                        q8: &x.q8()[at..],
                        stride: blocks,
                    };
                    // SAFETY: the kernel is offered only where its instruction set is; the sums are rows of the buffer, which has
                    // room for them, or of the result, as was checked.
                    unsafe { (kernel.run)(tile, own) };
                }
            }
            if !direct {
                let len = rows.len() * PANEL;
                store(task, panel, rows, &mut sums[..len]);
            }
        }
    }
}

/// Stores a panel's sums in the result.
fn store(task: &PanelTask<'_>, panel: usize, rows: Range<usize>, sums: &mut [f32]) {
    let outputs = task.weight.grid().rows;
    let columns = panel * PANEL..((panel + 1) * PANEL).min(outputs);
    let bias = task.bias.map(|bias| &bias[columns.clone()]);
    for (row, sums) in rows.zip(sums.chunks_exact_mut(PANEL)) {
        // SAFETY: this task alone owns these columns.
        let to = unsafe { task.y.slice(row * outputs + columns.start, columns.len()) };
        for (sum, bias) in sums.iter_mut().zip(bias.unwrap_or_default()) {
            *sum += bias;
        }
        match task.write {
            Write::Replace => to.copy_from_slice(&sums[..to.len()]),
            Write::Accumulate => to.iter_mut().zip(sums).for_each(|(to, sum)| *to += *sum),
        }
    }
}
