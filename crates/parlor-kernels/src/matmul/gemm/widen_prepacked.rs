//! Prepacked bf16 weights as B operands of f32 gemm: a prepacked panel already has the order of a packed B panel, so packing only
//! widens it.

use std::ops::Range;

use super::microkernel::PanelLayout;
use crate::cpu::simd::dispatch;
use crate::memory::PrepackedView;
use crate::memory::prepacked::layout::{PANEL, PackedLayout};
use crate::memory::scratch::CacheLine;

/// Packs `lanes` (rows of the view) over `depth` (its columns) into the panels of `layout`, in `out`. False, with nothing done,
/// where the weight is not bf16 or its panels do not line up with those of `layout`.
pub(super) fn widen_panels(
    view: PrepackedView<'_>,
    (lanes, depth): (&Range<usize>, &Range<usize>),
    layout: PanelLayout,
    out: &mut [f32],
) -> bool {
    let (weight, start) = view.weight_and_start();
    let columns = weight.grid().columns;
    let first = start / columns + lanes.start;
    // Lanes of a panel of `layout` that lie in one prepacked panel.
    let part = layout.used.min(PANEL);
    let fits = start.is_multiple_of(columns)
        && first.is_multiple_of(part)
        && layout.used.is_multiple_of(part)
        && PANEL.is_multiple_of(part)
        && depth.start.is_multiple_of(2);
    if weight.grid().layout != PackedLayout::Bf16Pairs || !fits {
        return false;
    }
    let panels = out.chunks_exact_mut(layout.len()).take(lanes.len().div_ceil(layout.used));
    for (index, panel) in panels.enumerate() {
        let row = first + index * layout.used;
        let parts = (row..(row + layout.used).min(first + lanes.len())).step_by(part);
        for (lane, row) in (0..).step_by(part).zip(parts) {
            let lines = weight.blocks(row / PANEL, depth.start / 2..depth.end.div_ceil(2));
            let pairs: &[u32] = bytemuck::cast_slice::<CacheLine, u32>(lines);
            let own = row % PANEL..row % PANEL + part;
            widen(pairs, own, lane, (&mut panel[..depth.len() * layout.stride], layout.stride));
        }
    }
    true
}

/// Writes the pairs `own` of every 32 to two steps of a panel, `stride` lanes each, from lane `lane` on; to one step where K ends.
fn widen(pairs: &[u32], own: Range<usize>, lane: usize, (panel, stride): (&mut [f32], usize)) {
    dispatch(
        #[inline(always)]
        || {
            for (pairs, both) in pairs.chunks_exact(PANEL).zip(panel.chunks_mut(2 * stride)) {
                let pairs = &pairs[own.clone()];
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
