//! How the loops of gemm cut the operands: the same on every machine and for any number of threads.

use std::ops::Range;

use super::batch::Batch;
use super::microkernel::{KC, Microkernel, PanelLayout};
use super::problem::GemmProblem;

/// Packed panels and the batches they are cut from.
pub(super) struct Blocking<'a> {
    /// Values of K in a block.
    pub(super) block: usize,
    pub(super) a: PanelLayout,
    pub(super) b: PanelLayout,
    pub(super) rows: Batch<'a>,
    pub(super) columns: Batch<'a>,
}

impl<'a> Blocking<'a> {
    pub(super) fn new<K: Microkernel>(problem: &GemmProblem<'a>) -> Self {
        // Whole blocks of any quantized format.
        let unit = 64;
        let blocks = problem.depth.div_ceil(KC * K::K_PER_LANE);
        let block = problem.depth.div_ceil(blocks).next_multiple_of(unit);
        let steps = block / K::K_PER_LANE;
        Self {
            block,
            a: PanelLayout { used: K::MR, stride: K::A_LANES, steps },
            b: PanelLayout { used: K::NR, stride: K::NR, steps },
            rows: Batch { all: problem.a, unit: K::MR },
            columns: Batch { all: problem.b, unit: K::NR },
        }
    }
}

/// Part of the B operands, packed `[block of K][panel][step][lane]`.
pub(super) struct PackedChunk<'a, E> {
    /// Padded lanes of all B operands.
    pub(super) columns: Range<usize>,
    pub(super) depth: Range<usize>,
    pub(super) packed: &'a [E],
}

/// `range` in steps of `step`.
pub(super) fn steps_of(range: Range<usize>, step: usize) -> impl Iterator<Item = Range<usize>> {
    range.clone().step_by(step).map(move |start| start..(start + step).min(range.end))
}
