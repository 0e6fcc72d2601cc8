//! The results of products with prepacked weights, and their division into tasks.

use std::ops::Range;

use crate::matmul::write::Write;
use crate::memory::PrepackedWeight;
use crate::memory::prepacked::layout::PANEL;
use crate::parallel::SharedMut;

/// A product: a weight, and where its result goes.
pub struct PrepackedOutput<'a> {
    /// The weight, `[outputs, inputs]`.
    pub weight: &'a PrepackedWeight,
    /// The result, `[rows, outputs]`.
    pub y: &'a mut [f32],
    /// What becomes of the old content of `y`.
    pub write: Write,
    /// `[outputs]`, added to every row.
    pub bias: Option<&'a [f32]>,
}

/// A task: some panels of a weight.
pub(super) struct PanelTask<'a> {
    pub(super) weight: &'a PrepackedWeight,
    pub(super) panels: Range<usize>,
    pub(super) y: SharedMut<f32>,
    pub(super) write: Write,
    pub(super) bias: Option<&'a [f32]>,
}

/// Fewest bytes of weights that pay for a task.
const MIN_TASK_BYTES: usize = 96 << 10;
/// Tasks to aim at.
const TASKS: usize = 16;

/// The tasks of several products of the same activations, `[rows, columns]`.
pub(super) fn tasks<'a>(
    rows: usize,
    columns: usize,
    outputs: &'a mut [PrepackedOutput<'_>],
) -> Vec<PanelTask<'a>> {
    let bytes: usize = outputs.iter().map(|output| output.weight.bytes()).sum();
    let mut tasks = Vec::with_capacity(2 * TASKS);
    for PrepackedOutput { weight, y, write, bias } in outputs {
        let grid = weight.grid();
        assert!(
            columns == grid.columns
                && y.len() == rows * grid.rows
                && bias.is_none_or(|bias| bias.len() == grid.rows),
            "activations of {columns} columns by {rows} rows and a weight of {} by {} into {} values",
            grid.rows,
            grid.columns,
            y.len(),
        );
        let panels = grid.rows.div_ceil(PANEL);
        let panel_bytes = (weight.bytes() / panels.max(1)).max(1);
        let least = if rows > TASKS { 1 } else { MIN_TASK_BYTES };
        let step = (least.max(bytes / TASKS) / panel_bytes).clamp(1, panels.max(1));
        let (y, weight) = (SharedMut::new(y), *weight);
        tasks.extend((0..panels).step_by(step).map(|start| PanelTask {
            weight,
            panels: start..(start + step).min(panels),
            y,
            write: *write,
            bias: *bias,
        }));
    }
    tasks
}
