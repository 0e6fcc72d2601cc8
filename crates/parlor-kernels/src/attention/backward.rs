//! The backward pass of a family of segments and one key/value head: probabilities from the kept log-sum-exp, then five
//! products a tile.

use std::ops::Range;

use super::forward::gather;
use super::keys::{self, Of, PANELS, Panel, Sizes};
use super::{Backward, Segment};
use crate::Write;
use crate::cpu::simd::{dispatch, dot, exp};
use crate::matmul::gemm::kernel::{Kernel, Panels, Rows, Tile};
use crate::memory::scratch::{self, ATTENTION};

/// Rows of a block, about: heads of the group times queries.
const ROWS: usize = 112;

/// Gradients of the segments `members` and key/value head `kv_head`.
pub(crate) fn backward_family<K: Kernel>(job: &Backward<'_>, members: &[usize], kv_head: usize) {
    let step = (ROWS / job.geometry.group().max(1)).max(1);
    for &member in members {
        let segment = &job.segments[member];
        for start in segment.rows.clone().step_by(step) {
            block::<K>(job, segment, start..(start + step).min(segment.rows.end), kv_head);
        }
    }
}

/// Lanes of a tile's left operand.
fn left<K: Kernel>(depth: usize) -> Panels {
    Panels { used: K::ROWS, stride: K::LEFT, steps: depth.div_ceil(K::GROUP) }
}

/// A block of queries.
fn block<K: Kernel>(job: &Backward<'_>, segment: &Segment<'_>, queries: Range<usize>, kv_head: usize) {
    let geometry = job.geometry;
    let (dim, group, heads) = (geometry.head_dim, geometry.group(), geometry.heads);
    let position = segment.position + queries.start - segment.rows.start;
    let rows = queries.len() * group;
    if rows == 0 || dim == 0 {
        return;
    }
    let sizes = Sizes::new(geometry, kv_head);
    let panels =
        keys::panels(geometry, job.saved.kv, segment, &(position..position + queries.len()), K::COLUMNS);
    let slots = PANELS * K::COLUMNS;
    let (by_dim, by_slots, by_rows) = (left::<K>(dim), left::<K>(slots), left::<K>(rows));
    let features = Panels { used: K::COLUMNS, stride: K::COLUMNS, steps: by_rows.steps };
    let (row_panels, dim_panels) = (rows.div_ceil(K::ROWS), dim.div_ceil(K::COLUMNS));
    let packed = [
        row_panels * by_dim.len(),
        row_panels * by_dim.len(),
        dim_panels * features.len(),
        dim_panels * features.len(),
        sizes.across_len::<K>(),
        sizes.across_len::<K>(),
        sizes.along_len::<K>(),
        (row_panels * by_slots.len()).max(slots.div_ceil(K::ROWS) * by_rows.len()),
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
        let rounding = job.path.rounding;
        gather(job.dout, width, queries.start, group * dim, column, own);
        for row in 0..rows {
            let (query, head) = (queries.start + row / group, kv_head * group + row % group);
            let out = &job.saved.out[(query * heads + head) * dim..][..dim];
            deltas[row] = dispatch(
                #[inline(always)]
                || dot(&own[row * dim..(row + 1) * dim], out),
            );
            lses[row] = job.saved.lse[query * heads + head];
        }
        // SAFETY: a path exists only where its instruction set does.
        unsafe {
            K::pack_across(plain(own, rows, dim), by_dim, rounding, dout);
            K::pack_along(plain(own, rows, dim), 0, features, rounding, dout_right);
        }
        gather(job.saved.q, width, queries.start, group * dim, column, own);
        // SAFETY: as above.
        unsafe {
            K::pack_across(plain(own, rows, dim), by_dim, rounding, q);
            K::pack_along(plain(own, rows, dim), 0, features, rounding, q_right);
        }
        dq.fill(0.0);
        for panels in panels.chunks(PANELS) {
            let count = panels.len() * K::COLUMNS;
            // SAFETY: as above.
            unsafe {
                keys::pack_across::<K>(job.path, sizes, Of::Keys, panels, k);
                keys::pack_across::<K>(job.path, sizes, Of::Values, panels, v);
                keys::pack_along::<K>(job.path, sizes, Of::Keys, panels, k_right);
            }
            let of_slots = Sheet { stride: slots, rows, columns: count, write: Write::Replace };
            product::<K>(of_slots, (q, by_dim), (k, sizes.across::<K>().len()), scores);
            product::<K>(of_slots, (dout, by_dim), (v, sizes.across::<K>().len()), d_scores);
            let lines = scores.chunks_exact_mut(slots).zip(d_scores.chunks_exact_mut(slots));
            for (row, (p, ds)) in lines.enumerate() {
                let at = position + row / group;
                let (p, ds) = (&mut p[..count], &mut ds[..count]);
                soften(job, panels, (at, lses[row], deltas[row]), (p, ds), K::COLUMNS);
            }
            let lines = |values| Rows { values, stride: slots, count: rows, width: count };
            let of_keys = Sheet { stride: dim, rows: count, columns: dim, write: Write::Replace };
            // SAFETY: as above.
            unsafe { K::pack_along(lines(scores), 0, by_rows, rounding, weights) };
            product::<K>(of_keys, (weights, by_rows), (dout_right, features.len()), d_keys);
            add(job.dv, panels, sizes, d_keys, K::COLUMNS);
            // SAFETY: as above.
            unsafe { K::pack_along(lines(d_scores), 0, by_rows, rounding, weights) };
            product::<K>(of_keys, (weights, by_rows), (q_right, features.len()), d_keys);
            add(job.dk, panels, sizes, d_keys, K::COLUMNS);
            let of_queries = Sheet { stride: dim, rows, columns: dim, write: Write::Accumulate };
            let by_count = Panels { steps: count / K::GROUP, ..by_slots };
            // SAFETY: as above.
            unsafe { K::pack_across(lines(d_scores), by_count, rounding, weights) };
            product::<K>(of_queries, (weights, by_count), (k_right, sizes.along::<K>().len()), dq);
        }
        for (row, dq) in dq.chunks_exact(dim).enumerate() {
            let (query, head) = (queries.start + row / group, kv_head * group + row % group);
            // SAFETY: this task alone owns its heads in its segments' rows.
            unsafe { job.dq.slice((query * heads + head) * dim, dim) }.copy_from_slice(dq);
        }
    });
}

/// `count` rows that lie side by side.
fn plain(values: &[f32], count: usize, width: usize) -> Rows<'_> {
    Rows { values, stride: width, count, width }
}

/// Sizes of a product of packed operands.
#[derive(Clone, Copy)]
struct Sheet {
    /// Elements from a row of the result to the next.
    stride: usize,
    rows: usize,
    columns: usize,
    write: Write,
}

/// All tiles of a product.
fn product<K: Kernel>(
    sheet: Sheet,
    (left, layout): (&[K::Element], Panels),
    (right, per_panel): (&[K::Element], usize),
    to: &mut [f32],
) {
    let Sheet { stride, rows, columns, write } = sheet;
    assert!(to.len() >= (rows - 1) * stride + columns, "room for {rows} by {columns}");
    for (index, left) in left.chunks_exact(layout.len()).enumerate().take(rows.div_ceil(K::ROWS)) {
        let row = index * K::ROWS;
        let count = K::ROWS.min(rows - row);
        for (column, right) in (0..columns).step_by(K::COLUMNS).zip(right.chunks_exact(per_panel)) {
            let columns = K::COLUMNS.min(columns - column);
            let to = to[row * stride + column..].as_mut_ptr();
            let tile = Tile { to, stride, rows: count, columns, from: write.onto(to) };
            // SAFETY: the panels hold so many steps; the tile lies in the result, as was checked. A path exists only where its
            // instruction set does.
            unsafe { K::tile(layout.steps, left.as_ptr(), right.as_ptr(), tile) };
        }
    }
}

/// From a row's scores and the gradients of its probabilities to the probabilities and the gradients of its scores.
fn soften(
    job: &Backward<'_>,
    panels: &[Panel<'_>],
    (position, lse, delta): (usize, f32, f32),
    (p, ds): (&mut [f32], &mut [f32]),
    width: usize,
) {
    let scale = job.geometry.scale;
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
        let seen = panel.seen(job.geometry, position);
        for line in [p, ds] {
            line[..seen.start].fill(0.0);
            line[seen.end..].fill(0.0);
        }
    }
}

/// Adds the gradients of a block's keys, `[slot][feature]`, where they belong.
fn add(to: crate::parallel::SharedMut<f32>, panels: &[Panel<'_>], sizes: Sizes, from: &[f32], width: usize) {
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
