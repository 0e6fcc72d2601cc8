//! One query against its keys, which is what an answer asks for, a token at a time.
//!
//! A key meets the few heads of a group and is not met again: packing it would take longer than its products. So its rows are
//! read where they lie, [`KEYS`] at a time, in f32 whatever the arithmetic: sums along features for the scores, and along keys,
//! in registers, for the output.

use super::forward::{soften, store};
use super::keys::{self, Of, Sizes};
use super::{Forward, Queries, Task};
use crate::cpu::simd::dispatch;
use crate::matmul::gemm::kernel::Rows;
use crate::matmul::gemv::{self, Long, TOGETHER};
use crate::memory::scratch::{self, ATTENTION};

/// Keys that are met at a time: their values stay in the nearest cache while the heads of a group pass by.
const KEYS: usize = 64;
/// Features whose sums stay in registers together, and those that make a register.
const WIDE: usize = 64;
const NARROW: usize = 16;

/// Computes `task`, which is of one query.
pub(super) fn forward_one(job: &Forward<'_>, task: &Task, queries: Queries) {
    let geometry = job.geometry;
    let (dim, group) = (geometry.head_dim, queries.group);
    let positions = queries.position..queries.position + 1;
    let panels = keys::panels(geometry, job.kv, &job.segments[task.segment], &positions, KEYS);
    let sizes = Sizes::new(geometry, task.kv_head);
    let first = task.rows.start * geometry.query_width() + task.kv_head * group * dim;
    let q = &job.q[first..first + group * dim];
    let lens = [group * KEYS, group * dim, group, group];
    scratch::with_sections(&ATTENTION, lens, |[scores, out, max, sum]| {
        out.fill(0.0);
        max.fill(f32::NEG_INFINITY);
        sum.fill(0.0);
        for panel in &panels {
            let lines = || (0..group).map(|row| row * KEYS..row * KEYS + panel.len);
            panel.with_plain(Of::Keys, sizes, |keys, stride| {
                for (turn, q) in q.chunks(TOGETHER * dim).enumerate() {
                    let rows = q.len() / dim;
                    let sums = &mut [0.0; TOGETHER * KEYS][..rows * panel.len];
                    gemv::dots(q, keys, Long { inputs: dim, stride }, sums);
                    for (key, sums) in sums.chunks_exact(rows).enumerate() {
                        for (row, sum) in (turn * TOGETHER..).zip(sums) {
                            scores[row * KEYS + key] = *sum;
                        }
                    }
                }
            });
            for (row, line) in lines().enumerate() {
                let out = &mut out[row * dim..(row + 1) * dim];
                soften(geometry.scale, &mut scores[line], (&mut max[row], &mut sum[row]), out);
            }
            panel.with_rows(Of::Values, sizes, |values| {
                for (out, line) in out.chunks_exact_mut(dim).zip(lines()) {
                    add_weighted(&scores[line], values, out);
                }
            });
        }
        store(job, task, queries, out, (max, sum));
    });
}

/// Adds the sum of the values by their weights.
fn add_weighted(weights: &[f32], values: Rows<'_>, out: &mut [f32]) {
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
fn add_columns<const N: usize>(weights: &[f32], values: Rows<'_>, at: usize, out: &mut [f32; N]) {
    let mut sums = *out;
    for (weight, row) in weights.iter().zip(values.values.chunks(values.stride)) {
        for (sum, value) in sums.iter_mut().zip(&row[at..at + N]) {
            *sum = weight.mul_add(*value, *sum);
        }
    }
    *out = sums;
}
