//! Matrix products by packed panels and register tiles: `dst (+)= left * right`, operands of any dtype, sums in f32.
//!
//! Source: Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication" (2008); the loops around the
//! tile are those of BLIS. All threads pack a chunk of both operands, then compute its tiles. The depth is never
//! split between tasks, and every element is summed in the same order wherever its tile begins, so results do not
//! depend on threads or stealing. Operands that meet the same other one are laid side by side ([`Band`]), so that it is packed
//! once.
//!
//! Leaves out: operands that stay packed between calls.

mod bands;
pub(crate) mod kernel;
mod narrow;
mod operand;
mod path;
mod portable;
mod task;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;

use std::ops::Range;

use crate::parallel::ParallelExt as _;

use crate::memory::scratch::{self, PACKED_B};
use crate::parallel::SharedMut;
use crate::{ValuesMut, Write};
use kernel::{Kernel, Panels, STEPS};
use narrow::Narrow;
use task::task;

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::tail_of_eight;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::{tail, transpose};
pub use bands::Band;
use bands::Bands;
pub use operand::{Along, Operand};
pub use path::Path;
#[cfg(target_arch = "x86_64")]
pub(crate) use path::fast_bf16;

/// Size of a product: `dst` is `[rows, columns]`, contiguous; the sums run over `depth`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Rows of the result.
    pub rows: usize,
    /// Columns of the result.
    pub columns: usize,
    /// Length of the sums.
    pub depth: usize,
}

/// Where the product of a left band and a right one goes.
pub struct Product<'a> {
    /// `[rows of the left, columns of the right]`, contiguous; bf16 gets the sums rounded to nearest.
    pub to: ValuesMut<'a>,
    /// What becomes of what `to` holds.
    pub write: Write,
    /// Numbers of the same shape that are added, instead of those that `to` holds, where that is f32.
    pub base: Option<&'a [f32]>,
    /// A product of few steps that is added, where there is one left band and `to` is f32.
    pub thin: Option<Thin<'a>>,
}

/// A second product of the same shape and of few steps, added to each tile while that is near: low-rank factors beside a weight.
#[derive(Clone, Copy, Debug)]
pub struct Thin<'a> {
    /// Its lanes are the rows of the result.
    pub left: Operand<'a>,
    /// Its lanes are the columns of the result.
    pub right: Operand<'a>,
    /// Length of its sums.
    pub depth: usize,
}

/// Where a product goes.
#[derive(Clone, Copy)]
enum Place {
    /// And the start of what it is added to.
    Wide { to: SharedMut<f32>, from: *const f32 },
    /// By way of f32 sums of a part of it.
    Narrow(Narrow),
}

// SAFETY: it is read while `to` is written, by the same tasks, and outlives the product.
unsafe impl Send for Place {}
// SAFETY: as above.
unsafe impl Sync for Place {}

/// Products, checked.
pub(crate) struct Job<'a> {
    left: &'a [Band<'a>],
    right: &'a [Band<'a>],
    depth: usize,
    /// Of each left band with each right one, in this order.
    to: &'a [Place],
    /// What is added to each of them, in the same order.
    thin: &'a [Option<Thin<'a>>],
    path: Path,
}

/// Elements of the right operand that are packed at a time, at most.
const CHUNK: usize = 1 << 20;
/// Left panels of one task, at most.
const LEFT_PANELS: usize = 32;
/// Tasks to aim at: a thread that falls behind leaves little undone.
const TASKS: usize = 8;
/// Blocks of depth in a chunk, at most.
const DEEP: usize = 2;
/// Fewest multiplications that pay for a task, about 10 microseconds of them.
const WORTH_A_TASK: usize = 1 << 20;
/// Fewest elements to pack that pay for a task.
const WORTH_PACKING: usize = 1 << 14;

/// `dst (+)= left * right` by `path`.
///
/// # Panics
/// When an operand or `dst` does not hold what `size` says.
pub fn product(
    path: Path,
    dst: &mut [f32],
    (left, right): (Operand<'_>, Operand<'_>),
    size: Size,
    write: Write,
) {
    let left = Band { operand: left, lanes: size.rows };
    let right = Band { operand: right, lanes: size.columns };
    product_all(
        path,
        (&[left], &[right]),
        size.depth,
        &mut [Product { to: dst.into(), write, base: None, thin: None }],
    );
}

/// The products of each left band with each right one, in this order, over the same `depth`.
///
/// # Panics
/// When an operand or a result does not hold what the bands say.
pub fn product_all(
    path: Path,
    (left, right): (&[Band<'_>], &[Band<'_>]),
    depth: usize,
    results: &mut [Product<'_>],
) {
    let some = |thin: &Thin<'_>| thin.depth > 0;
    let thin: Vec<_> = results.iter().map(|result| result.thin.filter(some)).collect();
    let held = left.iter().chain(right).all(|band| band.operand.holds(band.lanes, depth));
    let pairs = left.iter().flat_map(|left| right.iter().map(|right| left.lanes * right.lanes));
    assert!(
        held && pairs.eq(results.iter().map(|result| result.to.len()))
            && results.iter().all(|result| {
                let wide = matches!(result.to, ValuesMut::F32(_));
                result.base.is_none_or(|base| wide && base.len() == result.to.len())
                    && result.thin.is_none_or(|_| wide && left.len() == 1 && depth > 0)
            }),
        "products over {depth} of {left:?} and {right:?}"
    );
    for (thin, right) in thin.iter().zip(right).filter_map(|(thin, right)| Some((thin.as_ref()?, right))) {
        let fits = thin.left.holds(left[0].lanes, thin.depth) && thin.right.holds(right.lanes, thin.depth);
        assert!(fits, "a thin product {thin:?} beside {right:?}");
    }
    if depth == 0 {
        for result in &mut *results {
            match (result.base, result.write) {
                (Some(base), _) => result.to.reborrow().set(base),
                (None, Write::Replace) => result.to.reborrow().zero(),
                (None, Write::Accumulate) => {}
            }
        }
    }
    if depth > 0 && results.iter().any(|result| !result.to.is_empty()) {
        let place = |result: &mut Product<'_>| match &mut result.to {
            ValuesMut::F32(to) => {
                let from = result.base.map_or(result.write.onto(to.as_ptr()), <[f32]>::as_ptr);
                Place::Wide { to: SharedMut::new(to), from }
            }
            ValuesMut::Bf16(to) => Place::Narrow(Narrow { to: SharedMut::new(to), write: result.write }),
        };
        let to: Vec<_> = results.iter_mut().map(place).collect();
        (path.run)(&Job { left, right, depth, to: &to, thin: &thin, path });
    }
}

/// The loops around a kernel's tile.
fn run<K: Kernel>(job: &Job<'_>) {
    let depth = job.depth;
    // Whole blocks of any format.
    let unit = 64;
    let blocks = depth.div_ceil(STEPS * K::GROUP);
    let block = depth.div_ceil(blocks).next_multiple_of(unit);
    let layout = Layout::new::<K>(job, block);
    let (rows, columns) = (layout.rows.places(), layout.columns.places());
    // The chunk of the right operand: whole blocks of depth, as many columns as then fit.
    let panel = layout.right.len();
    let narrow = job.to.iter().any(|place| matches!(place, Place::Narrow(_)));
    let fitting = (CHUNK / (columns / K::COLUMNS * panel)).clamp(1, blocks.min(DEEP));
    // Sums that are rounded when they leave are made at once.
    let depth_step = block * if narrow { blocks } else { fitting };
    let column_step = (CHUNK / (depth_step / block * panel)).max(1) * K::COLUMNS;
    for depth in steps_of(0..depth, depth_step) {
        for columns in steps_of(0..columns, column_step) {
            let room = depth.len().div_ceil(block) * (columns.len() / K::COLUMNS) * panel;
            scratch::with(&PACKED_B, room, |packed: &mut [K::Element]| {
                pack_right::<K>(job, &layout, (&columns, &depth), packed);
                let chunk = Chunk { columns: columns.clone(), depth: depth.clone(), packed };
                let tasks = tasks::<K>(rows, &columns, depth.len());
                let compute = |(rows, columns): &(Range<usize>, Range<usize>)| {
                    task::<K>(job, &layout, &chunk, rows, columns);
                };
                if tasks.len() == 1 {
                    tasks.iter().for_each(compute);
                } else {
                    tasks.iter().par_for_each(compute);
                }
            });
        }
    }
}

/// `range` in steps of `step`.
fn steps_of(range: Range<usize>, step: usize) -> impl Iterator<Item = Range<usize>> {
    range.clone().step_by(step).map(move |start| start..(start + step).min(range.end))
}

/// How the operands are packed: the same on every machine and for any number of threads.
struct Layout<'a> {
    /// Values of the depth in a block.
    block: usize,
    left: Panels,
    right: Panels,
    rows: Bands<'a>,
    columns: Bands<'a>,
}

impl<'a> Layout<'a> {
    fn new<K: Kernel>(job: &Job<'a>, block: usize) -> Self {
        let steps = block / K::GROUP;
        Self {
            block,
            left: Panels { used: K::ROWS, stride: K::LEFT, steps },
            right: Panels { used: K::COLUMNS, stride: K::COLUMNS, steps },
            rows: Bands { all: job.left, unit: K::ROWS },
            columns: Bands { all: job.right, unit: K::COLUMNS },
        }
    }
}

/// Places of rows and columns of each task, which differ by a panel at most: one that is shorter leaves a thread waiting.
fn tasks<K: Kernel>(rows: usize, columns: &Range<usize>, depth: usize) -> Vec<(Range<usize>, Range<usize>)> {
    let most = (rows * columns.len() * depth / WORTH_A_TASK).clamp(1, TASKS);
    let (row_panels, column_panels) = (rows.div_ceil(K::ROWS), columns.len().div_ceil(K::COLUMNS));
    let row_tasks = match row_panels.div_ceil(LEFT_PANELS) {
        // More than there should be: as many for one thread as for another.
        needed if needed > most => needed.next_multiple_of(most),
        _ => most.min(row_panels),
    };
    let column_tasks = most.div_ceil(row_tasks).min(column_panels);
    let mut tasks = Vec::new();
    for columns in even_parts(columns.clone(), K::COLUMNS, column_tasks) {
        for rows in even_parts(0..rows, K::ROWS, row_tasks) {
            tasks.push((rows, columns.clone()));
        }
    }
    tasks
}

/// `range` in `parts` parts of whole panels, each `width` wide, which differ by one at most.
fn even_parts(range: Range<usize>, width: usize, parts: usize) -> impl Iterator<Item = Range<usize>> {
    let panels = range.len().div_ceil(width);
    let at = move |part: usize| (range.start + panels * part / parts * width).min(range.end);
    (0..parts).map(move |part| at(part)..at(part + 1))
}

/// A part of the right bands, packed `[block of depth][panel][step][lane]`.
struct Chunk<'a, E> {
    columns: Range<usize>,
    depth: Range<usize>,
    packed: &'a [E],
}

fn pack_right<K: Kernel>(
    job: &Job<'_>,
    layout: &Layout<'_>,
    (columns, depth): (&Range<usize>, &Range<usize>),
    packed: &mut [K::Element],
) {
    let panels = layout.right;
    let per_block = columns.len() / K::COLUMNS * panels.len();
    let blocks = steps_of(depth.clone(), layout.block).zip(packed.chunks_exact_mut(per_block));
    let mut parts = Vec::new();
    for (block, out) in blocks {
        let out = SharedMut::new(out);
        for piece in layout.columns.pieces(columns.clone()) {
            // Rows along the lanes are read whole, a few at a time; along the depth, a few of them.
            let (lane_step, depth_step) = match piece.operand.along {
                Along::Depth => ((WORTH_PACKING / panels.steps).next_multiple_of(K::COLUMNS), layout.block),
                Along::Lanes => {
                    let few = WORTH_PACKING.div_ceil(piece.lanes.len()).next_multiple_of(K::GROUP);
                    (piece.lanes.len(), few)
                }
            };
            let first = piece.place - columns.start;
            for lanes in steps_of(piece.lanes.clone(), lane_step) {
                let panel = (first + lanes.start - piece.lanes.start) / K::COLUMNS;
                for depth in steps_of(block.clone(), depth_step) {
                    let step = (depth.start - block.start) / K::GROUP;
                    parts.push((piece.operand, lanes.clone(), depth, (panel, step), out));
                }
            }
        }
    }
    type Part<'a, E> = (&'a Operand<'a>, Range<usize>, Range<usize>, (usize, usize), SharedMut<E>);
    let pack = |(operand, lanes, depth, (panel, step), out): &Part<'_, K::Element>| {
        let count = lanes.len().div_ceil(K::COLUMNS) * panels.len();
        // SAFETY: parts differ in their panels or in their steps; a path exists only where its instruction set
        // does.
        unsafe {
            let out = out.slice(panel * panels.len(), count);
            operand.pack::<K>(lanes.clone(), depth.clone(), *step, panels, job.path.rounding, out);
        }
    };
    if parts.len() < 4 {
        parts.iter().for_each(pack);
    } else {
        parts.iter().par_for_each(pack);
    }
}

impl Job<'_> {
    /// Where the product of a left band and a right one goes.
    fn place(&self, left: usize, right: usize) -> Place {
        self.to[left * self.right.len() + right]
    }

    /// What is added to the product with a right band.
    fn thin(&self, right: usize) -> Option<Thin<'_>> {
        self.thin.get(right).copied().flatten()
    }
}
