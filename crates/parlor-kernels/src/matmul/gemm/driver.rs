//! The driver: the loops of gemm around the microkernel.
//!
//! Source: Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication" (2008); the loops are those of BLIS. All threads
//! pack a chunk of B, then each task packs its part of A and computes its tiles. K is never split between tasks, and every element is
//! summed in the same order wherever its tile begins, so results do not depend on threads. Operands that share the other operand are
//! batched ([`BatchedOperand`]), so that it is packed once.
//!
//! Leaves out: operands that stay packed between calls (`matmul::prepacked`).

use std::ops::Range;

use super::batch::BatchedOperand;
use super::bf16_store::Bf16Store;
use super::blocking::{Blocking, PackedChunk, steps_of};
use super::dispatch::{GemmKernel, with_microkernel};
use super::microkernel::{KC, Microkernel};
use super::operand::{Operand, StorageOrder};
use super::problem::{Destination, GemmOutput, GemmProblem, GemmSize, LowRankEpilogue};
use super::task::task;
use crate::matmul::write::Write;
use crate::memory::ValuesMut;
use crate::memory::scratch::{self, PACKED_B};
use crate::parallel::{ParallelExt as _, SharedMut};

/// Elements of B that are packed at a time, at most.
const CHUNK: usize = 1 << 20;
/// A panels of one task, at most.
const MAX_A_PANELS: usize = 32;
/// Tasks to aim at: a thread that falls behind leaves little undone.
const TASKS: usize = 8;
/// Blocks of K in a chunk, at most.
const MAX_K_BLOCKS: usize = 2;
/// Fewest multiplications that pay for a task, about 10 microseconds of them.
const MIN_TASK_FLOPS: usize = 1 << 20;
/// Fewest elements to pack that pay for a task.
const MIN_PACK_ELEMENTS: usize = 1 << 14;

/// `dst (+)= A B^T`, lanes of `a` by lanes of `b`.
///
/// # Panics
/// When an operand or `dst` does not hold what `size` says.
pub fn gemm(
    kernel: GemmKernel,
    dst: &mut [f32],
    (a, b): (Operand<'_>, Operand<'_>),
    size: GemmSize,
    write: Write,
) {
    let a = BatchedOperand { operand: a, lanes: size.rows };
    let b = BatchedOperand { operand: b, lanes: size.columns };
    gemm_batched(
        kernel,
        (&[a], &[b]),
        size.depth,
        &mut [GemmOutput { to: dst.into(), write, addend: None, epilogue: None }],
    );
}

/// The products of each A operand with each B operand, in this order, over the same `depth`.
///
/// # Panics
/// When an operand or a result does not hold what the operands say.
pub fn gemm_batched(
    kernel: GemmKernel,
    (a, b): (&[BatchedOperand<'_>], &[BatchedOperand<'_>]),
    depth: usize,
    results: &mut [GemmOutput<'_>],
) {
    let some = |epilogue: &LowRankEpilogue<'_>| epilogue.depth > 0;
    let epilogues: Vec<_> = results.iter().map(|result| result.epilogue.filter(some)).collect();
    let held = a.iter().chain(b).all(|member| member.operand.holds(member.lanes, depth));
    let pairs = a.iter().flat_map(|a| b.iter().map(|b| a.lanes * b.lanes));
    assert!(
        held && pairs.eq(results.iter().map(|result| result.to.len()))
            && results.iter().all(|result| {
                let wide = matches!(result.to, ValuesMut::F32(_));
                result.addend.is_none_or(|addend| wide && addend.len() == result.to.len())
                    && result.epilogue.is_none_or(|_| wide && a.len() == 1 && depth > 0)
            }),
        "products over {depth} of {a:?} and {b:?}"
    );
    for (epilogue, b) in epilogues.iter().zip(b).filter_map(|(epilogue, b)| Some((epilogue.as_ref()?, b))) {
        let fits = epilogue.a.holds(a[0].lanes, epilogue.depth) && epilogue.b.holds(b.lanes, epilogue.depth);
        assert!(fits, "an epilogue {epilogue:?} of {b:?}");
    }
    if depth == 0 {
        for result in &mut *results {
            match (result.addend, result.write) {
                (Some(addend), _) => result.to.reborrow().set(addend),
                (None, Write::Replace) => result.to.reborrow().zero(),
                (None, Write::Accumulate) => {}
            }
        }
    }
    if depth > 0 && results.iter().any(|result| !result.to.is_empty()) {
        let destination = |result: &mut GemmOutput<'_>| match &mut result.to {
            ValuesMut::F32(to) => {
                let addend = result.addend.map_or(result.write.addend(to.as_ptr()), <[f32]>::as_ptr);
                Destination::F32 { to: SharedMut::new(to), addend }
            }
            ValuesMut::Bf16(to) => {
                Destination::Bf16(Bf16Store { to: SharedMut::new(to), write: result.write })
            }
        };
        let to: Vec<_> = results.iter_mut().map(destination).collect();
        let problem =
            GemmProblem { a, b, depth, to: &to, epilogues: &epilogues, rounding: kernel.rounding() };
        with_microkernel!(kernel, K => run::<K>(&problem));
    }
}

/// The loops around the microkernel.
fn run<K: Microkernel>(problem: &GemmProblem<'_>) {
    let depth = problem.depth;
    let layout = Blocking::new::<K>(problem);
    let block = layout.block;
    let (rows, columns) = (layout.rows.padded_lanes(), layout.columns.padded_lanes());
    // A chunk of B: whole blocks of K, as many columns as then fit.
    let panel = layout.b.len();
    let blocks = depth.div_ceil(KC * K::K_PER_LANE);
    let fitting = (CHUNK / (columns / K::NR * panel)).clamp(1, blocks.min(MAX_K_BLOCKS));
    // Sums that are rounded when they are stored must be complete.
    let depth_step = block * if problem.has_bf16_results() { blocks } else { fitting };
    let column_step = (CHUNK / (depth_step / block * panel)).max(1) * K::NR;
    for depth in steps_of(0..depth, depth_step) {
        for columns in steps_of(0..columns, column_step) {
            let room = depth.len().div_ceil(block) * (columns.len() / K::NR) * panel;
            scratch::with(&PACKED_B, room, |packed: &mut [K::Element]| {
                pack_b::<K>(problem, &layout, (&columns, &depth), packed);
                let chunk = PackedChunk { columns: columns.clone(), depth: depth.clone(), packed };
                let tasks = tasks::<K>(rows, &columns, depth.len());
                let compute = |(rows, columns): &(Range<usize>, Range<usize>)| {
                    task::<K>(problem, &layout, &chunk, rows, columns);
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

/// Padded rows and columns of each task, which differ by a panel at most: a shorter task would leave a thread waiting.
fn tasks<K: Microkernel>(
    rows: usize,
    columns: &Range<usize>,
    depth: usize,
) -> Vec<(Range<usize>, Range<usize>)> {
    let most = (rows * columns.len() * depth / MIN_TASK_FLOPS).clamp(1, TASKS);
    let (row_panels, column_panels) = (rows.div_ceil(K::MR), columns.len().div_ceil(K::NR));
    let row_tasks = match row_panels.div_ceil(MAX_A_PANELS) {
        // More than aimed at: a multiple, so that each thread gets as many.
        needed if needed > most => needed.next_multiple_of(most),
        _ => most.min(row_panels),
    };
    let column_tasks = most.div_ceil(row_tasks).min(column_panels);
    let mut tasks = Vec::new();
    for columns in even_parts(columns.clone(), K::NR, column_tasks) {
        for rows in even_parts(0..rows, K::MR, row_tasks) {
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

fn pack_b<K: Microkernel>(
    problem: &GemmProblem<'_>,
    layout: &Blocking<'_>,
    (columns, depth): (&Range<usize>, &Range<usize>),
    packed: &mut [K::Element],
) {
    let panels = layout.b;
    let per_block = columns.len() / K::NR * panels.len();
    let blocks = steps_of(depth.clone(), layout.block).zip(packed.chunks_exact_mut(per_block));
    let mut parts = Vec::new();
    for (block, out) in blocks {
        let out = SharedMut::new(out);
        for slice in layout.columns.slices(columns.clone()) {
            // MN-contiguous rows are read whole, a few at a time; K-contiguous ones by the block, a few panels at a time.
            let (lane_step, depth_step) = match slice.operand.order {
                StorageOrder::KContiguous => {
                    ((MIN_PACK_ELEMENTS / panels.steps).next_multiple_of(K::NR), layout.block)
                }
                StorageOrder::MnContiguous => {
                    let few = MIN_PACK_ELEMENTS.div_ceil(slice.lanes.len()).next_multiple_of(K::K_PER_LANE);
                    (slice.lanes.len(), few)
                }
            };
            let first = slice.start - columns.start;
            for lanes in steps_of(slice.lanes.clone(), lane_step) {
                let panel = (first + lanes.start - slice.lanes.start) / K::NR;
                for depth in steps_of(block.clone(), depth_step) {
                    let step = (depth.start - block.start) / K::K_PER_LANE;
                    parts.push((slice.operand, lanes.clone(), depth, (panel, step), out));
                }
            }
        }
    }
    type PackTask<'a, E> = (&'a Operand<'a>, Range<usize>, Range<usize>, (usize, usize), SharedMut<E>);
    let pack = |(operand, lanes, depth, (panel, step), out): &PackTask<'_, K::Element>| {
        let count = lanes.len().div_ceil(K::NR) * panels.len();
        // SAFETY: tasks differ in their panels or in their steps; a kernel is offered only where its instruction set is.
        unsafe {
            let out = out.slice(panel * panels.len(), count);
            operand.pack::<K>(lanes.clone(), depth.clone(), *step, panels, problem.rounding, out);
        }
    };
    if parts.len() < 4 {
        parts.iter().for_each(pack);
    } else {
        parts.iter().par_for_each(pack);
    }
}
