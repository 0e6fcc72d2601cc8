//! One task of gemm: the tiles of some rows and columns over one packed chunk of B.

use std::ops::Range;

use super::batch::BatchSlice;
use super::blocking::{Blocking, PackedChunk, steps_of};
use super::microkernel::{Microkernel, OutputTile, PanelLayout, Rounding};
use super::problem::{Destination, GemmProblem, LowRankEpilogue};
use crate::memory::scratch::{self, ACCUMULATORS, LOW_RANK_PANELS, PACKED_A};

/// The tiles of `rows` and `columns` over one chunk.
pub(super) fn task<K: Microkernel>(
    problem: &GemmProblem<'_>,
    layout: &Blocking<'_>,
    chunk: &PackedChunk<'_, K::Element>,
    rows: &Range<usize>,
    columns: &Range<usize>,
) {
    let a_len = rows.len().div_ceil(K::MR) * layout.a.len();
    let room = a_len * chunk.depth.len().div_ceil(layout.block);
    let width = K::RESIDENT_PANELS * K::NR;
    let sums = if problem.has_bf16_results() { rows.len() * width } else { 0 };
    // Epilogues are added with the last block of K.
    let ends = chunk.depth.end == problem.depth;
    let added =
        problem.epilogues.iter().flatten().map(|epilogue| epilogue.depth.div_ceil(K::K_PER_LANE)).max();
    let steps = added.filter(|_| ends).unwrap_or(0);
    scratch::with(&LOW_RANK_PANELS, (width + K::A_LANES) * steps, |epilogue: &mut [K::Element]| {
        let (b, a) = epilogue.split_at_mut(width * steps);
        let mut epilogue = EpiloguePanels { a, b, steps, rounding: problem.rounding };
        scratch::with_two(
            ((&PACKED_A, room), (&ACCUMULATORS, sums)),
            |own: &mut [K::Element], sums: &mut [f32]| {
                for resident in steps_of(columns.clone(), width) {
                    tiles::<K>(
                        problem,
                        layout,
                        chunk,
                        (rows, columns, &resident),
                        (own, sums, &mut epilogue),
                    );
                    store_bf16(problem, layout, (rows, &resident), (sums, width));
                }
            },
        );
    });
}

/// The tiles of columns whose B panels stay resident in L2.
fn tiles<K: Microkernel>(
    problem: &GemmProblem<'_>,
    layout: &Blocking<'_>,
    chunk: &PackedChunk<'_, K::Element>,
    (rows, columns, resident): (&Range<usize>, &Range<usize>, &Range<usize>),
    (own, sums, epilogue): (&mut [K::Element], &mut [f32], &mut EpiloguePanels<'_, K::Element>),
) {
    let Blocking { block, a, b, .. } = *layout;
    let a_len = rows.len().div_ceil(K::MR) * a.len();
    let b_len = chunk.columns.len() / K::NR * b.len();
    let first_panel = (resident.start - chunk.columns.start) / K::NR * b.len();
    let width = K::RESIDENT_PANELS * K::NR;
    for (index, depth) in steps_of(chunk.depth.clone(), block).enumerate() {
        let steps = depth.len().div_ceil(K::K_PER_LANE);
        let panels = &chunk.packed[index * b_len + first_panel..];
        let ends = depth.end == problem.depth;
        for columns in layout.columns.slices(resident.clone()).filter(|_| ends) {
            if let Some(product) = problem.epilogue(columns.index) {
                epilogue.pack_b::<K>(&product, &columns, columns.start - resident.start);
            }
        }
        let own = &mut own[index * a_len..];
        for slice in layout.rows.slices(rows.clone()).filter(|_| resident.start == columns.start) {
            // All of A at once, so that MN-contiguous rows are read from one end to the other.
            let out = &mut own[(slice.start - rows.start) / K::MR * a.len()..];
            // SAFETY: a kernel is offered only where its instruction set is.
            unsafe { slice.operand.pack::<K>(slice.lanes, depth.clone(), 0, a, problem.rounding, out) };
        }
        for (own, start) in own.chunks_exact(a.len()).zip(rows.clone().step_by(K::MR)) {
            let Some(own_rows) = layout.rows.slices(start..start + K::MR).next() else { continue };
            for columns in layout.columns.slices(resident.clone()) {
                let from_resident = columns.start - resident.start;
                let panels = &panels[from_resident / K::NR * b.len()..];
                let added = problem.epilogue(columns.index).filter(|_| ends);
                if let Some(product) = &added {
                    epilogue.pack_a::<K>(product, &own_rows);
                }
                let first = columns.lanes.start;
                let each = steps_of(columns.lanes.clone(), K::NR);
                for (panel, lanes) in panels.chunks_exact(b.len()).zip(each) {
                    let extent = |stride: usize| (own_rows.lanes.len() - 1) * stride + lanes.len();
                    let in_resident = from_resident + (lanes.start - first);
                    let (to, addend, stride) = match problem.destination(own_rows.index, columns.index) {
                        Destination::F32 { to, addend } => {
                            let stride = problem.b[columns.index].lanes;
                            let at = own_rows.lanes.start * stride + lanes.start;
                            let to = to.offset(at, extent(stride));
                            let addend = match (depth.start == 0, addend.is_null()) {
                                (true, true) => addend,
                                (true, false) => addend.wrapping_add(at),
                                (false, _) => to,
                            };
                            (to, addend, stride)
                        }
                        Destination::Bf16(_) => {
                            let at = (start - rows.start) * width + in_resident;
                            let to = sums[at..at + extent(width)].as_mut_ptr();
                            (to, if index == 0 { std::ptr::null() } else { to.cast_const() }, width)
                        }
                    };
                    let tile =
                        OutputTile { to, stride, rows: own_rows.lanes.len(), columns: lanes.len(), addend };
                    // SAFETY: the panels hold `steps` steps; this task alone owns its rows and columns of
                    // the result, or the sums, whose bounds were checked.
                    unsafe { K::compute(steps, own.as_ptr(), panel.as_ptr(), tile) };
                    if let Some(product) = &added {
                        // SAFETY: as above.
                        unsafe { epilogue.add::<K>(product, in_resident, tile) };
                    }
                }
            }
        }
    }
}

/// Rounds sums into the bf16 results.
fn store_bf16(
    problem: &GemmProblem<'_>,
    layout: &Blocking<'_>,
    (rows, resident): (&Range<usize>, &Range<usize>),
    (sums, width): (&[f32], usize),
) {
    for own_rows in layout.rows.slices(rows.clone()) {
        for columns in layout.columns.slices(resident.clone()) {
            if let Destination::Bf16(store) = problem.destination(own_rows.index, columns.index) {
                let at = (own_rows.start - rows.start) * width + columns.start - resident.start;
                let stride = problem.b[columns.index].lanes;
                // SAFETY: this task alone owns these rows and columns of the result.
                unsafe { store.write((&sums[at..], width), (&own_rows.lanes, &columns.lanes), stride) };
            }
        }
    }
}

/// The packed panels of epilogues, for the resident columns and for the rows of one tile. Each task packs its own: they are small.
struct EpiloguePanels<'a, E> {
    a: &'a mut [E],
    b: &'a mut [E],
    /// Steps of the longest epilogue.
    steps: usize,
    rounding: Rounding,
}

impl<E> EpiloguePanels<'_, E> {
    fn layout<K: Microkernel<Element = E>>(&self) -> (PanelLayout, PanelLayout) {
        let steps = self.steps;
        let a = PanelLayout { used: K::MR, stride: K::A_LANES, steps };
        (a, PanelLayout { used: K::NR, stride: K::NR, steps })
    }

    /// Packs the columns of `slice`, `at` lanes from the first that is resident.
    fn pack_b<K: Microkernel<Element = E>>(
        &mut self,
        epilogue: &LowRankEpilogue<'_>,
        slice: &BatchSlice<'_>,
        at: usize,
    ) {
        let (_, layout) = self.layout::<K>();
        let out = &mut self.b[at / K::NR * layout.len()..];
        // SAFETY: a kernel is offered only where its instruction set is.
        unsafe {
            epilogue.b.pack::<K>(slice.lanes.clone(), 0..epilogue.depth, 0, layout, self.rounding, out)
        };
    }

    /// Packs the rows of a tile.
    fn pack_a<K: Microkernel<Element = E>>(&mut self, epilogue: &LowRankEpilogue<'_>, rows: &BatchSlice<'_>) {
        let (layout, _) = self.layout::<K>();
        let (lanes, out) = (rows.lanes.clone(), &mut *self.a);
        // SAFETY: as above.
        unsafe { epilogue.a.pack::<K>(lanes, 0..epilogue.depth, 0, layout, self.rounding, out) };
    }

    /// Adds the product to a tile, whose first column is `at` lanes from the first that is resident.
    ///
    /// # Safety
    /// As [`Microkernel::compute`].
    unsafe fn add<K: Microkernel<Element = E>>(
        &self,
        epilogue: &LowRankEpilogue<'_>,
        at: usize,
        tile: OutputTile,
    ) {
        let (_, layout) = self.layout::<K>();
        let (panel, steps) = (&self.b[at / K::NR * layout.len()..], epilogue.depth.div_ceil(K::K_PER_LANE));
        assert!(panel.len() >= layout.len() && steps <= layout.steps, "panels of {epilogue:?}");
        // SAFETY: the contract of the caller; the panels were packed with as many steps.
        unsafe { K::compute(steps, self.a.as_ptr(), panel.as_ptr(), OutputTile { addend: tile.to, ..tile }) };
    }
}
