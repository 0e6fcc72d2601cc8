//! Packed bf16 weights on their way into a product of f32 panels: a panel's pairs lie in the order in which those take them.

use std::ops::Range;

use super::{Order, PANEL, PackedView};
use crate::cpu::simd::dispatch;
use crate::matmul::gemm::kernel::Panels;
use crate::memory::scratch::CacheLine;

/// Packs `lanes` (rows of the view) over `depth` (its columns) into the panels of `layout`, in `out`. False, with nothing
/// done, where the weight is not bf16 or its panels are cut in other places.
pub(crate) fn widen_panels(
    view: PackedView<'_>,
    (lanes, depth): (&Range<usize>, &Range<usize>),
    layout: Panels,
    out: &mut [f32],
) -> bool {
    let PackedView { packed, start, .. } = view;
    let first = start / packed.layout().columns + lanes.start;
    // Lanes of one panel that lie in one of the weight's.
    let part = layout.used.min(PANEL);
    let fits = start.is_multiple_of(packed.layout().columns)
        && first.is_multiple_of(part)
        && layout.used.is_multiple_of(part)
        && PANEL.is_multiple_of(part)
        && depth.start.is_multiple_of(2);
    if packed.layout().order != Order::Pairs || !fits {
        return false;
    }
    let panels = out.chunks_exact_mut(layout.len()).take(lanes.len().div_ceil(layout.used));
    for (index, panel) in panels.enumerate() {
        let row = first + index * layout.used;
        let parts = (row..(row + layout.used).min(first + lanes.len())).step_by(part);
        for (lane, row) in (0..).step_by(part).zip(parts) {
            let records = packed.records(row / PANEL, depth.start / 2..depth.end.div_ceil(2));
            let records: &[u32] = bytemuck::cast_slice::<CacheLine, u32>(records);
            let pairs = row % PANEL..row % PANEL + part;
            widen(records, pairs, lane, (&mut panel[..depth.len() * layout.stride], layout.stride));
        }
    }
    true
}

/// Writes the `pairs` of each record to two steps of a panel, `stride` lanes each, from lane `lane` on; to one where the depth ends.
fn widen(records: &[u32], pairs: Range<usize>, lane: usize, (panel, stride): (&mut [f32], usize)) {
    dispatch(
        #[inline(always)]
        || {
            for (record, both) in records.chunks_exact(PANEL).zip(panel.chunks_mut(2 * stride)) {
                let pairs = &record[pairs.clone()];
                let (even, odd) = both.split_at_mut(stride);
                for (even, pair) in even[lane..].iter_mut().zip(pairs) {
                    *even = f32::from_bits(pair << 16);
                }
                for (odd, pair) in odd.get_mut(lane..).into_iter().flatten().zip(pairs) {
                    *odd = f32::from_bits(pair & 0xFFFF_0000);
                }
            }
        },
    );
}
