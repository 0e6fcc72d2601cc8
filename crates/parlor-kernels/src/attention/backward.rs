//! The backward pass of a prefix group of segments and one key/value head: probabilities from the kept log-sum-exp, then five products
//! per tile.

use std::ops::Range;

use super::keys::{self, HeadLayout, KEY_PANELS, KeyPanel, KeysOrValues};
use super::problem::{BackwardProblem, Segment};
use super::softmax::gather;
use crate::cpu::simd::{dispatch, dot, exp};
use crate::matmul::Write;
use crate::matmul::gemm::microkernel::{Microkernel, OutputTile, PanelLayout, StridedRows};
use crate::memory::scratch::{self, ATTENTION};
use crate::parallel::SharedMut;

/// Rows of a block, about: heads of the group times queries.
const BLOCK_ROWS: usize = 112;

/// Gradients of the segments `members` and key/value head `kv_head`.
pub(crate) fn backward_group<K: Microkernel>(
    problem: &BackwardProblem<'_>,
    members: &[usize],
    kv_head: usize,
) {
    let step = (BLOCK_ROWS / problem.geometry.group().max(1)).max(1);
    for &member in members {
        let segment = &problem.segments[member];
        for start in segment.rows.clone().step_by(step) {
            block::<K>(problem, segment, start..(start + step).min(segment.rows.end), kv_head);
        }
    }
}

/// Panels of A.
fn a_panels<K: Microkernel>(depth: usize) -> PanelLayout {
    PanelLayout { used: K::MR, stride: K::A_LANES, steps: depth.div_ceil(K::K_PER_LANE) }
}

/// A block of queries.
fn block<K: Microkernel>(
    problem: &BackwardProblem<'_>,
    segment: &Segment<'_>,
    queries: Range<usize>,
    kv_head: usize,
) {
    let geometry = problem.geometry;
    let (dim, group, heads) = (geometry.head_dim, geometry.group(), geometry.heads);
    let position = segment.position + queries.start - segment.rows.start;
    let rows = queries.len() * group;
    if rows == 0 || dim == 0 {
        return;
    }
    let sizes = HeadLayout::new(geometry, kv_head);
    let panels =
        keys::panels(geometry, problem.forward.kv, segment, &(position..position + queries.len()), K::NR);
    let slots = KEY_PANELS * K::NR;
    let (by_dim, by_slots, by_rows) = (a_panels::<K>(dim), a_panels::<K>(slots), a_panels::<K>(rows));
    let features = PanelLayout { used: K::NR, stride: K::NR, steps: by_rows.steps };
    let (row_panels, dim_panels) = (rows.div_ceil(K::MR), dim.div_ceil(K::NR));
    let packed = [
        row_panels * by_dim.len(),
        row_panels * by_dim.len(),
        dim_panels * features.len(),
        dim_panels * features.len(),
        sizes.by_key_len::<K>(),
        sizes.by_key_len::<K>(),
        sizes.by_feature_len::<K>(),
        (row_panels * by_slots.len()).max(slots.div_ceil(K::MR) * by_rows.len()),
    ];
    let unpacked = [rows * dim, rows * dim, rows * slots, rows * slots, slots * dim, 2 * rows];
    let mut lens = [0; 14];
    lens[..8].copy_from_slice(&packed);
    lens[8..].copy_from_slice(&unpacked);
    scratch::with_sections(&ATTENTION, lens, |parts| {
        let [q, dout, q_right, dout_right, k, v, k_right, weights, own, dq, scores, d_scores, d_keys, about] =
            parts;
        let [q, dout, q_right, dout_right, k, v, k_right, weights] =
            [q, dout, q_right, dout_right, k, v, k_right, weights]
                .map(bytemuck::cast_slice_mut::<f32, K::Element>);
        let (deltas, lses) = about.split_at_mut(rows);
        let (width, column) = (geometry.query_width(), kv_head * group * dim);
        let rounding = problem.rounding;
        gather(problem.dout, width, queries.start, group * dim, column, own);
        for row in 0..rows {
            let (query, head) = (queries.start + row / group, kv_head * group + row % group);
            let out = &problem.forward.out[(query * heads + head) * dim..][..dim];
            deltas[row] = dispatch(
                #[inline(always)]
                || dot(&own[row * dim..(row + 1) * dim], out),
            );
            lses[row] = problem.forward.lse[query * heads + head];
        }
        // SAFETY: a kernel is offered only where its instruction set is.
        unsafe {
            K::pack_k_contiguous(contiguous(own, rows, dim), by_dim, rounding, dout);
            K::pack_mn_contiguous(contiguous(own, rows, dim), 0, features, rounding, dout_right);
        }
        gather(problem.forward.q, width, queries.start, group * dim, column, own);
        // SAFETY: as above.
        unsafe {
            K::pack_k_contiguous(contiguous(own, rows, dim), by_dim, rounding, q);
            K::pack_mn_contiguous(contiguous(own, rows, dim), 0, features, rounding, q_right);
        }
        dq.fill(0.0);
        for panels in panels.chunks(KEY_PANELS) {
            let count = panels.len() * K::NR;
            // SAFETY: as above.
            unsafe {
                keys::pack_by_key::<K>(problem.rounding, sizes, KeysOrValues::Keys, panels, k);
                keys::pack_by_key::<K>(problem.rounding, sizes, KeysOrValues::Values, panels, v);
                keys::pack_by_feature::<K>(problem.rounding, sizes, KeysOrValues::Keys, panels, k_right);
            }
            let of_slots = TileSizes { stride: slots, rows, columns: count, write: Write::Replace };
            multiply::<K>(of_slots, (q, by_dim), (k, sizes.by_key::<K>().len()), scores);
            multiply::<K>(of_slots, (dout, by_dim), (v, sizes.by_key::<K>().len()), d_scores);
            let lines = scores.chunks_exact_mut(slots).zip(d_scores.chunks_exact_mut(slots));
            for (row, (p, ds)) in lines.enumerate() {
                let at = position + row / group;
                let (p, ds) = (&mut p[..count], &mut ds[..count]);
                softmax_backward(problem, panels, (at, lses[row], deltas[row]), (p, ds), K::NR);
            }
            let lines = |values| StridedRows { values, stride: slots, count: rows, width: count };
            let of_keys = TileSizes { stride: dim, rows: count, columns: dim, write: Write::Replace };
            // SAFETY: as above.
            unsafe { K::pack_mn_contiguous(lines(scores), 0, by_rows, rounding, weights) };
            multiply::<K>(of_keys, (weights, by_rows), (dout_right, features.len()), d_keys);
            add(problem.dv, panels, sizes, d_keys, K::NR);
            // SAFETY: as above.
            unsafe { K::pack_mn_contiguous(lines(d_scores), 0, by_rows, rounding, weights) };
            multiply::<K>(of_keys, (weights, by_rows), (q_right, features.len()), d_keys);
            add(problem.dk, panels, sizes, d_keys, K::NR);
            let of_queries = TileSizes { stride: dim, rows, columns: dim, write: Write::Accumulate };
            let by_count = PanelLayout { steps: count / K::K_PER_LANE, ..by_slots };
            // SAFETY: as above.
            unsafe { K::pack_k_contiguous(lines(d_scores), by_count, rounding, weights) };
            multiply::<K>(of_queries, (weights, by_count), (k_right, sizes.by_feature::<K>().len()), dq);
        }
        for (row, dq) in dq.chunks_exact(dim).enumerate() {
            let (query, head) = (queries.start + row / group, kv_head * group + row % group);
            // SAFETY: this task alone owns its heads in its segments' rows.
            unsafe { problem.dq.slice((query * heads + head) * dim, dim) }.copy_from_slice(dq);
        }
    });
}

/// Contiguous rows.
fn contiguous(values: &[f32], count: usize, width: usize) -> StridedRows<'_> {
    StridedRows { values, stride: width, count, width }
}

/// HeadLayout of a product of packed operands.
#[derive(Clone, Copy)]
struct TileSizes {
    /// Elements from a row of the result to the next.
    stride: usize,
    rows: usize,
    columns: usize,
    write: Write,
}

/// All tiles of a product.
fn multiply<K: Microkernel>(
    sizes: TileSizes,
    (left, layout): (&[K::Element], PanelLayout),
    (right, per_panel): (&[K::Element], usize),
    to: &mut [f32],
) {
    let TileSizes { stride, rows, columns, write } = sizes;
    assert!(to.len() >= (rows - 1) * stride + columns, "room for {rows} by {columns}");
    for (index, left) in left.chunks_exact(layout.len()).enumerate().take(rows.div_ceil(K::MR)) {
        let row = index * K::MR;
        let count = K::MR.min(rows - row);
        for (column, right) in (0..columns).step_by(K::NR).zip(right.chunks_exact(per_panel)) {
            let columns = K::NR.min(columns - column);
            let to = to[row * stride + column..].as_mut_ptr();
            let tile = OutputTile { to, stride, rows: count, columns, addend: write.addend(to) };
            // SAFETY: the panels hold so many steps; the tile lies in the result, as was checked. A kernel is offered only
            // where its instruction set is.
            unsafe { K::compute(layout.steps, left.as_ptr(), right.as_ptr(), tile) };
        }
    }
}

/// From a row's scores and the gradients of its probabilities to the probabilities and the gradients of its scores.
fn softmax_backward(
    problem: &BackwardProblem<'_>,
    panels: &[KeyPanel<'_>],
    (position, lse, delta): (usize, f32, f32),
    (p, ds): (&mut [f32], &mut [f32]),
    width: usize,
) {
    let scale = problem.geometry.scale;
    dispatch(
        #[inline(always)]
        || {
            for (p, ds) in p.iter_mut().zip(ds.iter_mut()) {
                *p = exp(*p * scale - lse);
                *ds = *p * (*ds - delta) * scale;
            }
        },
    );
    let lines = p.chunks_exact_mut(width).zip(ds.chunks_exact_mut(width));
    for (panel, (p, ds)) in panels.iter().zip(lines) {
        let seen = panel.seen(problem.geometry, position);
        for line in [p, ds] {
            line[..seen.start].fill(0.0);
            line[seen.end..].fill(0.0);
        }
    }
}

/// Adds the gradients of a block's keys, `[slot][feature]`, to those of their rows.
fn add(to: SharedMut<f32>, panels: &[KeyPanel<'_>], sizes: HeadLayout, from: &[f32], width: usize) {
    for (index, panel) in panels.iter().enumerate() {
        let rows = from[index * width * sizes.dim..].chunks_exact(sizes.dim).take(panel.len);
        for (row, from) in rows.enumerate() {
            let at = (panel.row + row) * sizes.key_width + sizes.column;
            // SAFETY: this task alone owns the columns of its key head in the rows of its family.
            let to = unsafe { to.slice(at, sizes.dim) };
            for (to, x) in to.iter_mut().zip(from) {
                *to += x;
            }
        }
    }
}
