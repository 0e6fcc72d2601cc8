//! `y (+)= x W^T` for a few input rows (decode): dot products in f32, each weight read once from memory for all rows.
//!
//! What bounds this is reading the weights, so a task is a run of output rows that lie together, and what follows is asked
//! for ahead of its use.
//! Leaves out: packed weights, which have a product of their own.

#[cfg(target_arch = "x86_64")]
mod avx512;

use crate::cpu::simd::{dispatch, dot, dot_with, widen};
use crate::linear::Shape;
use crate::parallel::SharedMut;
use crate::parallel::threads::parallel_for_ranges;
use crate::{View, Write};

/// At most this many rows are computed so.
pub(crate) const ROWS: usize = 16;
/// Rows whose sums stay in registers together.
pub(crate) const TOGETHER: usize = 8;
/// Weight rows that meet an input row while it is near.
const GROUP: usize = 3;

/// The dot products of some weight rows with some rows of `x`, in `out` by weight row.
type Dots = unsafe fn(x: &[f32], weight: View<'_>, rows: Long, out: &mut [f32]);

/// How long the rows of a dot product are, and how far apart those of the weight.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Long {
    pub(crate) inputs: usize,
    pub(crate) stride: usize,
}

/// The fastest way that this machine has.
fn fastest() -> Dots {
    #[cfg(target_arch = "x86_64")]
    if crate::cpu::isa::allows(crate::cpu::isa::Isa::Avx512) {
        return avx512::dots;
    }
    portable
}

/// The dot products of up to [`TOGETHER`] rows of `x` with rows of `weight`, which are no blocks, as many as `out`,
/// `[weight rows, rows of x]`, has room for.
pub(crate) fn dots(x: &[f32], weight: View<'_>, rows: Long, out: &mut [f32]) {
    // SAFETY: the function exists only where its instruction set does.
    unsafe { fastest()(x, weight, rows, out) }
}

/// `y[rows, outputs] (+)= x[rows, inputs] W^T` of at most [`ROWS`] rows.
pub(crate) fn forward(x: &[f32], weight: View<'_>, y: &mut [f32], write: Write, shape: Shape) {
    let Shape { rows, inputs, outputs, .. } = shape;
    if rows == 0 || outputs == 0 {
        return;
    }
    let bytes = match weight {
        View::F32(_) => 4 * inputs,
        View::Bf16(_) | View::F16(_) => 2 * inputs,
        View::Block(_) | View::Packed(_) => inputs,
    };
    let (rows_of, to) = (Long { inputs, stride: inputs }, SharedMut::new(y));
    parallel_for_ranges(outputs, bytes, |own_outputs| {
        let mut wide = Vec::new();
        for output in own_outputs.clone().step_by(GROUP) {
            let group = GROUP.min(own_outputs.end - output);
            let own = weight.slice(output * inputs..(output + group) * inputs);
            let own = match own {
                View::Block(_) | View::Packed(_) => {
                    wide.resize(group * inputs, 0.0);
                    own.widen_into(&mut wide);
                    View::F32(&wide)
                }
                plain => plain,
            };
            for start in (0..rows).step_by(TOGETHER) {
                let count = TOGETHER.min(rows - start);
                let sums = &mut [0.0; GROUP * TOGETHER][..group * count];
                dots(&x[start * inputs..(start + count) * inputs], own, rows_of, sums);
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

/// # Safety
/// None is needed: the signature is that of the other ways.
unsafe fn portable(x: &[f32], weight: View<'_>, Long { inputs, stride }: Long, out: &mut [f32]) {
    dispatch(
        #[inline(always)]
        || {
            let inputs = inputs.max(1);
            for (at, out) in out.chunks_exact_mut(x.len() / inputs).enumerate() {
                let weight = weight.slice(at * stride..at * stride + inputs);
                for (out, x) in out.iter_mut().zip(x.chunks_exact(inputs)) {
                    *out = match weight {
                        View::F32(w) => dot(x, w),
                        View::Bf16(w) => dot_with(x, w, widen),
                        View::F16(w) => dot_with(
                            x,
                            w,
                            #[inline(always)]
                            |w| w.to_f32(),
                        ),
                        // These are widened before.
                        View::Block(_) | View::Packed(_) => f32::NAN,
                    };
                }
            }
        },
    );
}
