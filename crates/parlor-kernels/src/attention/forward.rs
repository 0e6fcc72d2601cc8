//! The forward pass of a task: rows of queries against their keys, block after block, with an online softmax.

use super::decode::decode;
use super::keys::{self, HeadLayout, KEY_PANELS, KeyPanel, KeysOrValues};
use super::problem::{AttentionTask, ForwardProblem, QueryRows};
use super::softmax::{gather, online_softmax, store};
use crate::matmul::gemm::microkernel::{Microkernel, OutputTile, PanelLayout, StridedRows};
use crate::memory::scratch::{self, ATTENTION};

/// Rows of a task, at most, unless one query has more heads: they share the packing of their keys.
pub(super) const MAX_ROWS: usize = 224;
/// Row panels whose scores are held at once.
const PANELS_TOGETHER: usize = 4;

/// Computes `task`.
pub(crate) fn forward_task<K: Microkernel>(problem: &ForwardProblem<'_>, task: &AttentionTask) {
    let geometry = problem.geometry;
    let (dim, group) = (geometry.head_dim, geometry.group());
    let segment = &problem.segments[task.segment];
    let position = segment.position + task.rows.start - segment.rows.start;
    let queries = QueryRows { position, group, rows: task.rows.len() * group };
    if queries.rows == 0 || dim == 0 {
        return;
    }
    if task.rows.len() == 1 {
        return decode(problem, task, queries);
    }
    let panels = keys::panels(geometry, problem.kv, segment, &(position..position + task.rows.len()), K::NR);
    let sizes = HeadLayout::new(geometry, task.kv_head);
    let slots = KEY_PANELS * K::NR;
    let together = PANELS_TOGETHER * K::MR;
    let left = PanelLayout { used: K::MR, stride: K::A_LANES, steps: dim.div_ceil(K::K_PER_LANE) };
    let probabilities = PanelLayout { used: K::MR, stride: K::A_LANES, steps: slots / K::K_PER_LANE };
    let row_panels = queries.rows.div_ceil(K::MR);
    let lens = [
        row_panels * left.len(),
        sizes.by_key_len::<K>(),
        sizes.by_feature_len::<K>(),
        PANELS_TOGETHER * probabilities.len(),
        together * slots,
        queries.rows * dim,
        queries.rows * dim,
        queries.rows,
        queries.rows,
    ];
    scratch::with_sections(&ATTENTION, lens, |[q, k, v, p, scores, rows, out, max, sum]| {
        let [q, k, v, p] = [q, k, v, p].map(bytemuck::cast_slice_mut::<f32, K::Element>);
        let column = task.kv_head * group * dim;
        gather(problem.q, geometry.query_width(), task.rows.start, group * dim, column, rows);
        let values = StridedRows { values: &*rows, stride: dim, count: queries.rows, width: dim };
        // SAFETY: a kernel is offered only where its instruction set is.
        unsafe { K::pack_k_contiguous(values, left, problem.rounding, q) };
        out.fill(0.0);
        max.fill(f32::NEG_INFINITY);
        sum.fill(0.0);
        for panels in panels.chunks(KEY_PANELS) {
            // SAFETY: as above.
            unsafe {
                keys::pack_by_key::<K>(problem.rounding, sizes, KeysOrValues::Keys, panels, k);
                keys::pack_by_feature::<K>(problem.rounding, sizes, KeysOrValues::Values, panels, v);
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
                let tile = |row: usize| first + row..first + count.min(row + K::MR);
                for row in (0..count).step_by(K::MR) {
                    let own = &q[(first + row) / K::MR * left.len()..];
                    for index in 0..seen {
                        let to = &mut scores[row * slots + index * K::NR..];
                        let rows = tile(row).len();
                        assert!(to.len() >= (rows - 1) * slots + K::NR, "room for a tile of scores");
                        let tile = OutputTile {
                            to: to.as_mut_ptr(),
                            stride: slots,
                            rows,
                            columns: K::NR,
                            addend: std::ptr::null(),
                        };
                        let own_k = &k[index * sizes.by_key::<K>().len()..];
                        // SAFETY: the panels hold so many steps, the tile lies in the scores.
                        unsafe { K::compute(left.steps, own.as_ptr(), own_k.as_ptr(), tile) };
                    }
                }
                let width = seen * K::NR;
                for row in 0..count {
                    let at = first + row;
                    let line = &mut scores[row * slots..row * slots + width];
                    apply_mask(problem, panels, queries.position_of(at), K::NR, line);
                    let out = &mut out[at * dim..(at + 1) * dim];
                    online_softmax(geometry.scale, line, (&mut max[at], &mut sum[at]), out);
                }
                let values = StridedRows { values: &*scores, stride: slots, count, width };
                // SAFETY: as above.
                unsafe { K::pack_k_contiguous(values, probabilities, problem.rounding, p) };
                let v_len = sizes.by_feature::<K>().len();
                for row in (0..count).step_by(K::MR) {
                    let own = &p[row / K::MR * probabilities.len()..];
                    for (index, v) in v.chunks_exact(v_len).enumerate() {
                        let columns = (dim - index * K::NR).min(K::NR);
                        let rows = tile(row).len();
                        let to = &mut out[(first + row) * dim + index * K::NR..];
                        assert!(to.len() >= (rows - 1) * dim + columns, "room for a tile of the output");
                        let to = to.as_mut_ptr();
                        let tile = OutputTile { to, stride: dim, rows, columns, addend: to };
                        // SAFETY: the panels hold so many steps, the tile lies in the output.
                        unsafe { K::compute(width / K::K_PER_LANE, own.as_ptr(), v.as_ptr(), tile) };
                    }
                }
            }
        }
        store(problem, task, queries, out, (max, sum));
    });
}

/// Sets the scores of keys that are not seen to negative infinity.
fn apply_mask(
    problem: &ForwardProblem<'_>,
    panels: &[KeyPanel<'_>],
    position: usize,
    width: usize,
    line: &mut [f32],
) {
    for (panel, line) in panels.iter().zip(line.chunks_exact_mut(width)) {
        let seen = panel.seen(problem.geometry, position);
        line[..seen.start].fill(f32::NEG_INFINITY);
        line[seen.end..].fill(f32::NEG_INFINITY);
    }
}
