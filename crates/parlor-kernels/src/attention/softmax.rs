//! What tiled attention and decoding share: gathering a head's rows, the online softmax, storing the result.

use super::problem::{AttentionTask, ForwardProblem, QueryRows};
use crate::cpu::simd::{dispatch, exp, max_of, sum_of};

/// Copies the rows of a task, `[query][head of the group]`, out of `x`, `[rows, heads * head_dim]`.
pub(super) fn gather(
    x: &[f32],
    width: usize,
    first: usize,
    group_width: usize,
    column: usize,
    out: &mut [f32],
) {
    for (index, out) in out.chunks_exact_mut(group_width).enumerate() {
        let at = (first + index) * width + column;
        out.copy_from_slice(&x[at..at + group_width]);
    }
}

/// A step of the online softmax: turns scores into weights relative to the largest score so far, and rescales the sums before.
#[inline]
pub(super) fn online_softmax(
    scale: f32,
    line: &mut [f32],
    (max, sum): (&mut f32, &mut f32),
    out: &mut [f32],
) {
    dispatch(
        #[inline(always)]
        || {
            for x in line.iter_mut() {
                *x *= scale;
            }
            let own = max_of(line);
            let new = if own > *max || own.is_nan() { own } else { *max };
            if new == f32::NEG_INFINITY {
                return line.fill(0.0);
            }
            for x in line.iter_mut() {
                *x = exp(*x - new);
            }
            let total = sum_of(
                line,
                #[inline(always)]
                |x| x,
            );
            if new != *max {
                let factor = exp(*max - new);
                *sum *= factor;
                for x in out.iter_mut() {
                    *x *= factor;
                }
                *max = new;
            }
            *sum += total;
        },
    );
}

/// Stores the output and the log-sum-exp of a task's rows.
pub(super) fn store(
    problem: &ForwardProblem<'_>,
    task: &AttentionTask,
    queries: QueryRows,
    out: &[f32],
    (max, sum): (&[f32], &[f32]),
) {
    let (dim, heads, group) = (problem.geometry.head_dim, problem.geometry.heads, queries.group);
    for (row, out) in out.chunks_exact(dim).enumerate() {
        let (query, head) = (task.rows.start + row / group, task.kv_head * group + row % group);
        // SAFETY: this task alone owns its heads in its rows.
        let (to, lse) = unsafe {
            (problem.out.slice((query * heads + head) * dim, dim), problem.lse.slice(query * heads + head, 1))
        };
        let inverse = 1.0 / sum[row];
        for (to, x) in to.iter_mut().zip(out) {
            *to = x * inverse;
        }
        lse[0] = max[row] + sum[row].ln();
    }
}
