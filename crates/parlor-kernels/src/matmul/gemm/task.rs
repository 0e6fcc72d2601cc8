//! One task of a product: the tiles of some rows and columns over one chunk of the right operand.

use std::ops::Range;

use super::bands::Piece;
use super::kernel::{Kernel, Panels, Rounding, Tile};
use super::{Chunk, Job, Layout, Place, Thin, steps_of};
use crate::memory::scratch::{self, ACCUMULATORS, LOW_RANK_PANELS, PACKED_A};

/// The tiles of `rows` and `columns` over one chunk.
pub(super) fn task<K: Kernel>(
    job: &Job<'_>,
    layout: &Layout<'_>,
    chunk: &Chunk<'_, K::Element>,
    rows: &Range<usize>,
    columns: &Range<usize>,
) {
    let per_left = rows.len().div_ceil(K::ROWS) * layout.left.len();
    let room = per_left * chunk.depth.len().div_ceil(layout.block);
    let narrow = job.to.iter().any(|place| matches!(place, Place::Narrow(_)));
    let width = K::NEAR * K::COLUMNS;
    let sums = if narrow { rows.len() * width } else { 0 };
    // What is added at the end of the depth.
    let ends = chunk.depth.end == job.depth;
    let added = job.thin.iter().flatten().map(|thin| thin.depth.div_ceil(K::GROUP)).max();
    let steps = added.filter(|_| ends).unwrap_or(0);
    scratch::with(&LOW_RANK_PANELS, (width + K::LEFT) * steps, |thin: &mut [K::Element]| {
        let (right, left) = thin.split_at_mut(width * steps);
        let mut thin = ThinPanels { left, right, steps, rounding: job.path.rounding };
        scratch::with_two(
            ((&PACKED_A, room), (&ACCUMULATORS, sums)),
            |own: &mut [K::Element], sums: &mut [f32]| {
                for near in steps_of(columns.clone(), width) {
                    tiles::<K>(job, layout, chunk, (rows, columns, &near), (own, sums, &mut thin));
                    narrow_sums(job, layout, (rows, &near), (sums, width));
                }
            },
        );
    });
}

/// The tiles of columns whose panels stay near.
fn tiles<K: Kernel>(
    job: &Job<'_>,
    layout: &Layout<'_>,
    chunk: &Chunk<'_, K::Element>,
    (rows, columns, near): (&Range<usize>, &Range<usize>, &Range<usize>),
    (own, sums, thin): (&mut [K::Element], &mut [f32], &mut ThinPanels<'_, K::Element>),
) {
    let Layout { block, left, right, .. } = *layout;
    let per_left = rows.len().div_ceil(K::ROWS) * left.len();
    let per_block = chunk.columns.len() / K::COLUMNS * right.len();
    let first_panel = (near.start - chunk.columns.start) / K::COLUMNS * right.len();
    let width = K::NEAR * K::COLUMNS;
    for (index, depth) in steps_of(chunk.depth.clone(), block).enumerate() {
        let steps = depth.len().div_ceil(K::GROUP);
        let panels = &chunk.packed[index * per_block + first_panel..];
        let ends = depth.end == job.depth;
        for columns in layout.columns.pieces(near.clone()).filter(|_| ends) {
            if let Some(product) = job.thin(columns.band) {
                thin.pack_right::<K>(&product, &columns, columns.place - near.start);
            }
        }
        let own = &mut own[index * per_left..];
        for piece in layout.rows.pieces(rows.clone()).filter(|_| near.start == columns.start) {
            // All at once, so that rows that run along the lanes are read from one end to the other.
            let out = &mut own[(piece.place - rows.start) / K::ROWS * left.len()..];
            // SAFETY: a path exists only where its instruction set does.
            unsafe { piece.operand.pack::<K>(piece.lanes, depth.clone(), 0, left, job.path.rounding, out) };
        }
        for (own, place) in own.chunks_exact(left.len()).zip(rows.clone().step_by(K::ROWS)) {
            let Some(own_rows) = layout.rows.pieces(place..place + K::ROWS).next() else { continue };
            for columns in layout.columns.pieces(near.clone()) {
                let from_near = columns.place - near.start;
                let panels = &panels[from_near / K::COLUMNS * right.len()..];
                let added = job.thin(columns.band).filter(|_| ends);
                if let Some(product) = &added {
                    thin.pack_left::<K>(product, &own_rows);
                }
                let first = columns.lanes.start;
                let each = steps_of(columns.lanes.clone(), K::COLUMNS);
                for (panel, lanes) in panels.chunks_exact(right.len()).zip(each) {
                    let extent = |stride: usize| (own_rows.lanes.len() - 1) * stride + lanes.len();
                    let in_near = from_near + (lanes.start - first);
                    let (to, from, stride) = match job.place(own_rows.band, columns.band) {
                        Place::Wide { to, from } => {
                            let stride = job.right[columns.band].lanes;
                            let at = own_rows.lanes.start * stride + lanes.start;
                            let to = to.offset(at, extent(stride));
                            let from = match (depth.start == 0, from.is_null()) {
                                (true, true) => from,
                                (true, false) => from.wrapping_add(at),
                                (false, _) => to,
                            };
                            (to, from, stride)
                        }
                        Place::Narrow(_) => {
                            let at = (place - rows.start) * width + in_near;
                            let to = sums[at..at + extent(width)].as_mut_ptr();
                            (to, if index == 0 { std::ptr::null() } else { to.cast_const() }, width)
                        }
                    };
                    let tile = Tile { to, stride, rows: own_rows.lanes.len(), columns: lanes.len(), from };
                    // SAFETY: the panels hold `steps` steps; this task alone owns its rows and columns of
                    // the result, or the sums, whose bounds were checked.
                    unsafe { K::tile(steps, own.as_ptr(), panel.as_ptr(), tile) };
                    if let Some(product) = &added {
                        // SAFETY: as above.
                        unsafe { thin.add::<K>(product, in_near, tile) };
                    }
                }
            }
        }
    }
}

/// Rounds sums into the results that are narrow.
fn narrow_sums(
    job: &Job<'_>,
    layout: &Layout<'_>,
    (rows, near): (&Range<usize>, &Range<usize>),
    (sums, width): (&[f32], usize),
) {
    for own_rows in layout.rows.pieces(rows.clone()) {
        for columns in layout.columns.pieces(near.clone()) {
            if let Place::Narrow(narrow) = job.place(own_rows.band, columns.band) {
                let at = (own_rows.place - rows.start) * width + columns.place - near.start;
                let stride = job.right[columns.band].lanes;
                // SAFETY: this task alone owns these rows and columns of the result.
                unsafe { narrow.write((&sums[at..], width), (&own_rows.lanes, &columns.lanes), stride) };
            }
        }
    }
}

/// The panels of thin products, of the columns that are near and of one tile's rows. Each task packs them for itself: they are
/// small.
struct ThinPanels<'a, E> {
    left: &'a mut [E],
    right: &'a mut [E],
    /// Those of the longest.
    steps: usize,
    rounding: Rounding,
}

impl<E> ThinPanels<'_, E> {
    fn layout<K: Kernel<Element = E>>(&self) -> (Panels, Panels) {
        let steps = self.steps;
        let left = Panels { used: K::ROWS, stride: K::LEFT, steps };
        (left, Panels { used: K::COLUMNS, stride: K::COLUMNS, steps })
    }

    /// Packs the columns of `piece`, `at` places from the first that is near.
    fn pack_right<K: Kernel<Element = E>>(&mut self, thin: &Thin<'_>, piece: &Piece<'_>, at: usize) {
        let (_, layout) = self.layout::<K>();
        let out = &mut self.right[at / K::COLUMNS * layout.len()..];
        // SAFETY: a path exists only where its instruction set does.
        unsafe { thin.right.pack::<K>(piece.lanes.clone(), 0..thin.depth, 0, layout, self.rounding, out) };
    }

    /// Packs the rows of a tile.
    fn pack_left<K: Kernel<Element = E>>(&mut self, thin: &Thin<'_>, rows: &Piece<'_>) {
        let (layout, _) = self.layout::<K>();
        let (lanes, out) = (rows.lanes.clone(), &mut *self.left);
        // SAFETY: as above.
        unsafe { thin.left.pack::<K>(lanes, 0..thin.depth, 0, layout, self.rounding, out) };
    }

    /// Adds the product to a tile, whose first column is `at` places from the first that is near.
    ///
    /// # Safety
    /// As [`Kernel::tile`].
    unsafe fn add<K: Kernel<Element = E>>(&self, thin: &Thin<'_>, at: usize, tile: Tile) {
        let (_, layout) = self.layout::<K>();
        let (panel, steps) = (&self.right[at / K::COLUMNS * layout.len()..], thin.depth.div_ceil(K::GROUP));
        assert!(panel.len() >= layout.len() && steps <= layout.steps, "panels of {thin:?}");
        // SAFETY: the contract of the caller; the panels were packed with as many steps.
        unsafe { K::tile(steps, self.left.as_ptr(), panel.as_ptr(), Tile { from: tile.to, ..tile }) };
    }
}
