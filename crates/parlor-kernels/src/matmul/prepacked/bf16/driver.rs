//! The loops around a bf16 kernel. The microkernel broadcasts the pairs of up to 14 activation rows against a 32-column panel.
//!
//! Few rows go through a panel in one stream, which reads the weights once; more go in blocks of K, so that the rows' part stays in L1
//! and some panels' part in L2.

use std::ops::Range;

use super::activations::Bf16Activations;
use super::tile::{Bf16Kernel, Bf16Tile};
use crate::matmul::prepacked::task::{PanelTask, PrepackedOutput, tasks};
use crate::matmul::thresholds::STREAMING_ROWS;
use crate::matmul::write::Write;
use crate::memory::prepacked::layout::{HALVES, PANEL, PackedLayout};
use crate::memory::scratch::CacheLine;
use crate::parallel::threads::parallel_for;

/// KC: steps of a block of K, at most.
const KC: usize = 384;
/// Panels of a group, whose block of K stays resident in L2.
const RESIDENT_PANELS: usize = 8;

/// `y[rows, outputs] (+)= x W^T + bias` of bf16 weights that share their activations.
///
/// # Panics
/// When `x`, a result or a bias does not fit its weight, or a weight is not bf16.
pub fn forward(kernel: Bf16Kernel, x: &[f32], outputs: &mut [PrepackedOutput<'_>]) {
    let is_bf16 = |output: &PrepackedOutput<'_>| output.weight.grid().layout == PackedLayout::Bf16Pairs;
    assert!(outputs.iter().all(is_bf16), "bf16 weights");
    let Some(columns) = outputs.first().map(|output| output.weight.grid().columns) else { return };
    if !x.is_empty() {
        let tasks = tasks(x.len() / columns, columns, outputs);
        Bf16Activations::with(kernel, x, columns, |x| {
            parallel_for(tasks.len(), |index| compute(&tasks[index], kernel, x));
        });
    }
}

/// The products of a task.
fn compute(task: &PanelTask<'_>, kernel: Bf16Kernel, x: &Bf16Activations<'_>) {
    let steps = task.weight.grid().columns.div_ceil(2);
    let blocks = if x.rows <= STREAMING_ROWS { 1 } else { steps.div_ceil(KC) };
    let block = steps.div_ceil(blocks);
    let row_step = x.rows.div_ceil(x.rows.div_ceil(kernel.rows));
    let together = if task.weight.storage().unpacked_source().is_some() { 1 } else { RESIDENT_PANELS };
    for group in task.panels.clone().step_by(together) {
        let group = group..(group + together).min(task.panels.end);
        task.weight.storage().with_panels(group.clone(), |packed| {
            let panels = packed.chunks_exact(steps * HALVES);
            for start in (0..steps).step_by(block) {
                let depth = start..(start + block).min(steps);
                for row in (0..x.rows).step_by(row_step) {
                    let rows = row..(row + row_step).min(x.rows);
                    for (panel, packed) in group.clone().zip(panels.clone()) {
                        let packed = &packed[depth.start * HALVES..depth.end * HALVES];
                        tile(task, kernel, x, (&rows, panel, &depth, packed));
                    }
                }
            }
        });
    }
}

/// One tile.
fn tile(
    task: &PanelTask<'_>,
    kernel: Bf16Kernel,
    x: &Bf16Activations<'_>,
    (rows, panel, depth, packed): (&Range<usize>, usize, &Range<usize>, &[CacheLine]),
) {
    let outputs = task.weight.grid().rows;
    let columns = panel * PANEL..((panel + 1) * PANEL).min(outputs);
    let words = &x.words[rows.start * x.stride + depth.start * kernel.words..];
    let needed = (rows.len() - 1) * x.stride + depth.len() * kernel.words;
    assert!(needed <= words.len(), "rows {rows:?} of the activations");
    let pairs: &[u32] = bytemuck::cast_slice::<CacheLine, u32>(packed);
    let first = depth.start == 0;
    let bias = task.bias.filter(|_| first).map_or(std::ptr::null(), |bias| bias[columns.clone()].as_ptr());
    let extent = (rows.len() - 1) * outputs + columns.len();
    let tile = Bf16Tile {
        x: words.as_ptr(),
        stride: x.stride,
        panel: pairs.as_ptr(),
        steps: depth.len(),
        to: task.y.offset(rows.start * outputs + columns.start, extent),
        outputs,
        rows: rows.len(),
        columns: columns.len(),
        write: if first { task.write } else { Write::Accumulate },
        bias,
    };
    // SAFETY: the operands hold what the tile says, as was just checked; this task alone owns these columns of the result; the kernel
    // is offered only where its instruction set is.
    unsafe { (kernel.run)(tile) };
}
