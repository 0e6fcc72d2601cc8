//! A single query against its keys: decoding.
//!
//! A key is multiplied by the few heads of a group once; packing it would take longer. So rows are read in place, [`KEYS`] at a time, in f32
//! whatever the arithmetic: dot products over features for the scores, and weighted sums over keys, in registers, for the output.

use super::keys::{self, HeadLayout, KeysOrValues};
use super::problem::{AttentionTask, ForwardProblem, QueryRows};
use super::softmax::{online_softmax, store};
use crate::cpu::simd::dispatch;
use crate::matmul::gemm::microkernel::StridedRows;
use crate::matmul::gemv::{MAX_ROWS, WeightRows};
use crate::memory::scratch::{self, ATTENTION};

/// Keys of a block: their values stay in L1 while the heads of a group pass.
const KEYS: usize = 64;
/// Features whose sums stay in registers together, and those of one register.
const WIDE: usize = 64;
const NARROW: usize = 16;

/// Computes `task`, which is of one query.
pub(super) fn decode(problem: &ForwardProblem<'_>, task: &AttentionTask, queries: QueryRows) {
    let geometry = problem.geometry;
    let (dim, group) = (geometry.head_dim, queries.group);
    let positions = queries.position..queries.position + 1;
    let panels = keys::panels(geometry, problem.kv, &problem.segments[task.segment], &positions, KEYS);
    let sizes = HeadLayout::new(geometry, task.kv_head);
    let first = task.rows.start * geometry.query_width() + task.kv_head * group * dim;
    let q = &problem.q[first..first + group * dim];
    let lens = [group * KEYS, group * dim, group, group];
    scratch::with_sections(&ATTENTION, lens, |[scores, out, max, sum]| {
        out.fill(0.0);
        max.fill(f32::NEG_INFINITY);
        sum.fill(0.0);
        for panel in &panels {
            let lines = || (0..group).map(|row| row * KEYS..row * KEYS + panel.len);
            panel.with_plain(KeysOrValues::Keys, sizes, |keys, stride| {
                for (turn, q) in q.chunks(MAX_ROWS * dim).enumerate() {
                    let rows = q.len() / dim;
                    let sums = &mut [0.0; MAX_ROWS * KEYS][..rows * panel.len];
                    problem.gemv.dots(q, keys, WeightRows { len: dim, stride }, sums);
                    for (key, sums) in sums.chunks_exact(rows).enumerate() {
                        for (row, sum) in (turn * MAX_ROWS..).zip(sums) {
                            scores[row * KEYS + key] = *sum;
                        }
                    }
                }
            });
            for (row, line) in lines().enumerate() {
                let out = &mut out[row * dim..(row + 1) * dim];
                online_softmax(geometry.scale, &mut scores[line], (&mut max[row], &mut sum[row]), out);
            }
            panel.with_rows(KeysOrValues::Values, sizes, |values| {
                for (out, line) in out.chunks_exact_mut(dim).zip(lines()) {
                    add_weighted(&scores[line], values, out);
                }
            });
        }
        store(problem, task, queries, out, (max, sum));
    });
}

/// Adds the sum of the values by their weights.
fn add_weighted(weights: &[f32], values: StridedRows<'_>, out: &mut [f32]) {
    dispatch(
        #[inline(always)]
        || {
            let (wide, rest) = out.as_chunks_mut::<WIDE>();
            let (narrow, last) = rest.as_chunks_mut::<NARROW>();
            let mut at = 0;
            for out in wide {
                add_columns(weights, values, at, out);
                at += WIDE;
            }
            for out in narrow {
                add_columns(weights, values, at, out);
                at += NARROW;
            }
            for out in last.as_chunks_mut::<1>().0 {
                add_columns(weights, values, at, out);
                at += 1;
            }
        },
    );
}

/// The same of `N` columns from `at` on.
#[inline(always)]
fn add_columns<const N: usize>(weights: &[f32], values: StridedRows<'_>, at: usize, out: &mut [f32; N]) {
    let mut sums = *out;
    for (weight, row) in weights.iter().zip(values.values.chunks(values.stride)) {
        for (sum, value) in sums.iter_mut().zip(&row[at..at + N]) {
            *sum = weight.mul_add(*value, *sum);
        }
    }
    *out = sums;
}
