//! The tasks of a product with packed weights, and what the two kinds of products have in common.

use std::ops::Range;

use super::integers::{self, PackedPath};
use super::pairs::{self, PairsPath, Rounded};
use super::{Inputs, Order, PANEL, Packed};
use crate::Write;
use crate::parallel::SharedMut;
use crate::parallel::threads::parallel_for;

/// A product: a weight, and where its result goes, `[rows, weight rows]`.
pub struct Output<'a> {
    /// The weight.
    pub weight: &'a Packed,
    /// The result.
    pub y: &'a mut [f32],
    /// What becomes of what it holds.
    pub write: Write,
    /// Added to every row.
    pub bias: Option<&'a [f32]>,
}

/// A task: some panels of a weight.
pub(super) struct Part<'a> {
    pub(super) weight: &'a Packed,
    pub(super) panels: Range<usize>,
    pub(super) y: SharedMut<f32>,
    pub(super) write: Write,
    pub(super) bias: Option<&'a [f32]>,
}

/// Bytes of weights that pay for a task, and tasks to aim at.
const TASK: usize = 96 << 10;
const TASKS: usize = 16;

/// The tasks of several products of the same inputs, `rows` of `columns`.
fn parts<'a>(rows: usize, columns: usize, outputs: &'a mut [Output<'_>]) -> Vec<Part<'a>> {
    let bytes: usize = outputs.iter().map(|output| output.weight.bytes()).sum();
    let mut parts = Vec::with_capacity(2 * TASKS);
    for Output { weight, y, write, bias } in outputs {
        assert!(
            columns == weight.layout().columns
                && y.len() == rows * weight.layout().rows
                && bias.is_none_or(|bias| bias.len() == weight.layout().rows),
            "inputs of {columns} columns by {rows} rows and a weight of {} by {} into {} values",
            weight.layout().rows,
            weight.layout().columns,
            y.len(),
        );
        let panels = weight.layout().rows.div_ceil(PANEL);
        let panel_bytes = (weight.bytes() / panels.max(1)).max(1);
        let least = if rows > TASKS { 1 } else { TASK };
        let step = (least.max(bytes / TASKS) / panel_bytes).clamp(1, panels.max(1));
        let (y, weight) = (SharedMut::new(y), *weight);
        parts.extend((0..panels).step_by(step).map(|start| Part {
            weight,
            panels: start..(start + step).min(panels),
            y,
            write: *write,
            bias: *bias,
        }));
    }
    parts
}

/// `y[rows, weight rows] (+)= x W^T + bias` of weights of few bits that share their input, by `path`.
///
/// # Panics
/// When `x`, a result or a bias does not fit its weight, or a weight is not of few bits.
pub fn forward(path: PackedPath, x: &Inputs, outputs: &mut [Output<'_>]) {
    assert!(outputs.iter().all(|output| output.weight.layout().order != Order::Pairs), "weights of few bits");
    if x.rows() > 0 {
        let parts = parts(x.rows(), x.columns(), outputs);
        parallel_for(parts.len(), |index| integers::compute(&parts[index], path, x));
    }
}

/// The same of bf16 weights.
///
/// # Panics
/// When `x`, a result or a bias does not fit its weight, or a weight is not bf16.
pub fn forward_bf16(path: PairsPath, x: &[f32], outputs: &mut [Output<'_>]) {
    assert!(outputs.iter().all(|output| output.weight.layout().order == Order::Pairs), "weights of bf16");
    let Some(columns) = outputs.first().map(|output| output.weight.layout().columns) else { return };
    if !x.is_empty() {
        let parts = parts(x.len() / columns, columns, outputs);
        Rounded::with(path, x, columns, |x| {
            parallel_for(parts.len(), |index| pairs::compute(&parts[index], path, x));
        });
    }
}

/// Whether weights are better met by a product of f32 panels, to which they are widened: many rows, and no tile of pairs with
/// registers for them.
pub(crate) fn are_widened<'a>(rows: usize, mut weights: impl Iterator<Item = &'a Packed>) -> bool {
    PairsPath::best().widens(rows) && weights.all(|weight| weight.layout().order == Order::Pairs)
}

/// The same of any, by the fastest way.
pub(crate) fn forward_best(x: &[f32], outputs: &mut [Output<'_>]) {
    let kind = |output: &Output<'_>| output.weight.layout().order == Order::Pairs;
    // Weights of one kind share the work on the input.
    for outputs in outputs.chunk_by_mut(|a, b| kind(a) == kind(b)) {
        let (columns, pairs) = (outputs[0].weight.layout().columns, kind(&outputs[0]));
        if pairs {
            forward_bf16(PairsPath::best(), x, outputs);
        } else {
            Inputs::with(x, columns, |x| forward(PackedPath::best(), x, outputs));
        }
    }
}
