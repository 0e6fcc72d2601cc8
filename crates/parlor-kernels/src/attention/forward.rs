//! The forward pass of a task: rows of queries against their keys, block after block, with a running softmax.

use super::keys::{self, Of, PANELS, Panel, Sizes};
use super::one::forward_one;
use super::{Forward, Queries, Task};
use crate::cpu::simd::{dispatch, exp, max_of, sum_of};
use crate::matmul::gemm::kernel::{Kernel, Panels, Rows, Tile};
use crate::memory::scratch::{self, ATTENTION};

/// Rows of a task, at most, unless one query has more heads: they share the packing of their keys.
pub(super) const ROWS: usize = 224;
/// Row panels whose scores are held at once.
const TOGETHER: usize = 4;

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

/// Computes `task`.
pub(crate) fn forward_task<K: Kernel>(job: &Forward<'_>, task: &Task) {
    let geometry = job.geometry;
    let (dim, group) = (geometry.head_dim, geometry.group());
    let segment = &job.segments[task.segment];
    let position = segment.position + task.rows.start - segment.rows.start;
    let queries = Queries { position, group, rows: task.rows.len() * group };
    if queries.rows == 0 || dim == 0 {
        return;
    }
    if task.rows.len() == 1 {
        return forward_one(job, task, queries);
    }
    let panels = keys::panels(geometry, job.kv, segment, &(position..position + task.rows.len()), K::COLUMNS);
    let sizes = Sizes::new(geometry, task.kv_head);
    let slots = PANELS * K::COLUMNS;
    let together = TOGETHER * K::ROWS;
    let left = Panels { used: K::ROWS, stride: K::LEFT, steps: dim.div_ceil(K::GROUP) };
    let probabilities = Panels { used: K::ROWS, stride: K::LEFT, steps: slots / K::GROUP };
    let row_panels = queries.rows.div_ceil(K::ROWS);
    let lens = [
        row_panels * left.len(),
        sizes.across_len::<K>(),
        sizes.along_len::<K>(),
        TOGETHER * probabilities.len(),
        together * slots,
        queries.rows * dim,
        queries.rows * dim,
        queries.rows,
        queries.rows,
    ];
    scratch::with_sections(&ATTENTION, lens, |[q, k, v, p, scores, rows, out, max, sum]| {
        let [q, k, v, p] = [q, k, v, p].map(bytemuck::cast_slice_mut::<f32, K::Element>);
        let column = task.kv_head * group * dim;
        gather(job.q, geometry.query_width(), task.rows.start, group * dim, column, rows);
        let values = Rows { values: &*rows, stride: dim, count: queries.rows, width: dim };
        // SAFETY: a path exists only where its instruction set does.
        unsafe { K::pack_across(values, left, job.path.rounding, q) };
        out.fill(0.0);
        max.fill(f32::NEG_INFINITY);
        sum.fill(0.0);
        for panels in panels.chunks(PANELS) {
            // SAFETY: as above.
            unsafe {
                keys::pack_across::<K>(job.path, sizes, Of::Keys, panels, k);
                keys::pack_along::<K>(job.path, sizes, Of::Values, panels, v);
            }
            for first in (0..queries.rows).step_by(together) {
                let count = together.min(queries.rows - first);
                let last = queries.position_of(first + count - 1);
                // Panels that begin after the last query come last, as positions rise.
                let seen = panels.iter().take_while(|panel| panel.position <= last).count();
                if seen == 0 {
                    continue;
                }
                let panels = &panels[..seen];
                let tile = |row: usize| first + row..first + count.min(row + K::ROWS);
                for row in (0..count).step_by(K::ROWS) {
                    let own = &q[(first + row) / K::ROWS * left.len()..];
                    for index in 0..seen {
                        let to = &mut scores[row * slots + index * K::COLUMNS..];
                        let rows = tile(row).len();
                        assert!(to.len() >= (rows - 1) * slots + K::COLUMNS, "room for a tile of scores");
                        let tile = Tile {
                            to: to.as_mut_ptr(),
                            stride: slots,
                            rows,
                            columns: K::COLUMNS,
                            from: std::ptr::null(),
                        };
                        let own_k = &k[index * sizes.across::<K>().len()..];
                        // SAFETY: the panels hold so many steps, the tile lies in the scores.
                        unsafe { K::tile(left.steps, own.as_ptr(), own_k.as_ptr(), tile) };
                    }
                }
                let width = seen * K::COLUMNS;
                for row in 0..count {
                    let at = first + row;
                    let line = &mut scores[row * slots..row * slots + width];
                    hide(job, panels, queries.position_of(at), K::COLUMNS, line);
                    let out = &mut out[at * dim..(at + 1) * dim];
                    soften(geometry.scale, line, (&mut max[at], &mut sum[at]), out);
                }
                let values = Rows { values: &*scores, stride: slots, count, width };
                // SAFETY: as above.
                unsafe { K::pack_across(values, probabilities, job.path.rounding, p) };
                let v_len = sizes.along::<K>().len();
                for row in (0..count).step_by(K::ROWS) {
                    let own = &p[row / K::ROWS * probabilities.len()..];
                    for (index, v) in v.chunks_exact(v_len).enumerate() {
                        let columns = (dim - index * K::COLUMNS).min(K::COLUMNS);
                        let rows = tile(row).len();
                        let to = &mut out[(first + row) * dim + index * K::COLUMNS..];
                        assert!(to.len() >= (rows - 1) * dim + columns, "room for a tile of the output");
                        let to = to.as_mut_ptr();
                        let tile = Tile { to, stride: dim, rows, columns, from: to };
                        // SAFETY: the panels hold so many steps, the tile lies in the output.
                        unsafe { K::tile(width / K::GROUP, own.as_ptr(), v.as_ptr(), tile) };
                    }
                }
            }
        }
        store(job, task, queries, out, (max, sum));
    });
}

/// Negative infinity where a key is not seen.
fn hide(job: &Forward<'_>, panels: &[Panel<'_>], position: usize, width: usize, line: &mut [f32]) {
    for (panel, line) in panels.iter().zip(line.chunks_exact_mut(width)) {
        let seen = panel.seen(job.geometry, position);
        line[..seen.start].fill(f32::NEG_INFINITY);
        line[seen.end..].fill(f32::NEG_INFINITY);
    }
}

/// Turns a row's scores into weights relative to the largest so far, and what was summed before with them.
#[inline]
pub(super) fn soften(scale: f32, line: &mut [f32], (max, sum): (&mut f32, &mut f32), out: &mut [f32]) {
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

/// Writes the output and the log-sum-exp of a task's rows.
pub(super) fn store(
    job: &Forward<'_>,
    task: &Task,
    queries: Queries,
    out: &[f32],
    (max, sum): (&[f32], &[f32]),
) {
    let (dim, heads, group) = (job.geometry.head_dim, job.geometry.heads, queries.group);
    for (row, out) in out.chunks_exact(dim).enumerate() {
        let (query, head) = (task.rows.start + row / group, task.kv_head * group + row % group);
        // SAFETY: this task alone owns its heads in its rows.
        let (to, lse) = unsafe {
            (job.out.slice((query * heads + head) * dim, dim), job.lse.slice(query * heads + head, 1))
        };
        let inverse = 1.0 / sum[row];
        for (to, x) in to.iter_mut().zip(out) {
            *to = x * inverse;
        }
        lse[0] = max[row] + sum[row].ln();
    }
}
