//! The loops of gemv. Reading the weights is the bottleneck, so a task is a run of adjacent output rows, read in one stream.
//!
//! Leaves out: prepacked weights, which have products of their own.

use super::kernel::{GemvKernel, MAX_ROWS, WEIGHT_ROWS, WeightRows};
use crate::matmul::write::Write;
use crate::memory::View;
use crate::parallel::SharedMut;
use crate::parallel::threads::parallel_for_ranges;

/// `y[rows, outputs] (+)= x[rows, inputs] W^T`.
pub(crate) fn forward(
    kernel: GemvKernel,
    x: &[f32],
    weight: View<'_>,
    y: &mut [f32],
    (rows, inputs, write): (usize, usize, Write),
) {
    let outputs = weight.len() / inputs.max(1);
    if rows == 0 || outputs == 0 {
        return;
    }
    let bytes = match weight {
        View::F32(_) => 4 * inputs,
        View::Bf16(_) | View::F16(_) => 2 * inputs,
        View::Block(_) | View::Packed(_) => inputs,
    };
    let (rows_of, to) = (WeightRows { len: inputs, stride: inputs }, SharedMut::new(y));
    parallel_for_ranges(outputs, bytes, |own_outputs| {
        let mut wide = Vec::new();
        for output in own_outputs.clone().step_by(WEIGHT_ROWS) {
            let group = WEIGHT_ROWS.min(own_outputs.end - output);
            let own = weight.slice(output * inputs..(output + group) * inputs);
            let own = match own {
                View::Block(_) | View::Packed(_) => {
                    wide.resize(group * inputs, 0.0);
                    own.widen_into(&mut wide);
                    View::F32(&wide)
                }
                plain => plain,
            };
            for start in (0..rows).step_by(MAX_ROWS) {
                let count = MAX_ROWS.min(rows - start);
                let sums = &mut [0.0; WEIGHT_ROWS * MAX_ROWS][..group * count];
                kernel.dots(&x[start * inputs..(start + count) * inputs], own, rows_of, sums);
                for (output, sums) in (output..).zip(sums.chunks_exact(count)) {
                    for (row, sum) in (start..).zip(sums) {
                        // SAFETY: this task alone owns its outputs.
                        let y = unsafe { &mut to.slice(row * outputs + output, 1)[0] };
                        *y = if write == Write::Replace { *sum } else { *y + *sum };
                    }
                }
            }
        }
    });
}
