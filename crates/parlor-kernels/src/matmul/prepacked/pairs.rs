//! The product of packed bf16 weights with inputs that are rounded to bf16 (to nearest, ties to even), sums in f32.
//!
//! Inputs stay in rows: a tile of up to 14 rows by 32 outputs fetches two columns, as a pair or one by one, from each of its rows and meets them
//! with the pairs of a panel, step by step. Few rows go through a panel from one end to the other, which reads the weights in one
//! stream; more go in blocks of depth, so that the rows' part stays in the nearest cache and some panels' in the next.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;

use std::ops::Range;

use super::parts::Part;
use super::{HALVES, PANEL};
use crate::Write;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use crate::cpu::isa::{self, Isa};
use crate::memory::scratch::{self, CacheLine, PACKED_A};
use crate::parallel::SharedMut;
use crate::parallel::threads::parallel_for_ranges;

/// One way to compute.
#[derive(Clone, Copy)]
pub struct PairsPath {
    name: &'static str,
    /// Rows of a tile, at most.
    rows: usize,
    run: unsafe fn(Tile),
    /// Rounds a row of inputs to `words` of 32 bits for each step.
    round: unsafe fn(&[f32], &mut [u32]),
    /// One, a pair of bf16; or two, both as f32, which an instruction takes as they are.
    words: usize,
    /// Rows up to which it is the faster way: more are met by panels of f32.
    most: usize,
}

/// Where a tile's operands lie and its sums go.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    /// The first row as the path rounds it; rows are `stride` words apart.
    pub(super) left: *const u32,
    pub(super) stride: usize,
    /// `[step][32]` pairs.
    pub(super) right: *const u32,
    pub(super) steps: usize,
    /// The result's first element; its rows are `outputs` apart.
    pub(super) to: *mut f32,
    pub(super) outputs: usize,
    pub(super) rows: usize,
    /// 1 to 32.
    pub(super) columns: usize,
    pub(super) write: Write,
    /// `columns` values, or null.
    pub(super) bias: *const f32,
}

impl PairsPath {
    /// A name for messages.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Every way this machine has, the fastest first.
    pub fn available() -> Vec<Self> {
        let mut paths = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            let fma = isa::allows(Isa::Avx512).then_some(Self {
                name: "avx512",
                rows: avx512::ROWS_WIDENED,
                run: avx512::tile_widened,
                round: portable::round_wide,
                words: 2,
                most: 1024,
            });
            let pairs = isa::has_avx512_bf16().then_some(Self {
                name: "avx512bf16",
                rows: avx512::ROWS,
                run: avx512::tile,
                round: avx512::round,
                words: 1,
                most: usize::MAX,
            });
            paths.extend(pairs.into_iter().chain(fma));
            if !crate::matmul::gemm::fast_bf16() {
                paths.reverse();
            }
            paths.extend(isa::allows(Isa::Avx2).then_some(Self {
                name: "avx2",
                rows: avx2::ROWS,
                run: avx2::tile,
                round: portable::round,
                words: 1,
                most: 256,
            }));
        }
        #[cfg(target_arch = "aarch64")]
        paths.extend(isa::allows(Isa::Neon).then_some(Self {
            name: "neon",
            rows: neon::ROWS,
            run: neon::tile,
            round: portable::round_wide,
            words: 2,
            most: 32,
        }));
        paths.push(Self {
            name: "portable",
            rows: portable::ROWS,
            run: portable::tile,
            round: portable::round,
            words: 1,
            most: usize::MAX,
        });
        paths
    }

    /// Whether so many rows are better met by f32 panels.
    pub(super) fn widens(&self, rows: usize) -> bool {
        rows > self.most
    }

    /// The fastest.
    pub fn best() -> Self {
        static BEST: std::sync::OnceLock<PairsPath> = std::sync::OnceLock::new();
        *BEST.get_or_init(|| Self::available()[0])
    }
}

/// Rows up to which a panel is read in one stream.
const FEW: usize = 16;
/// Steps of a block of depth, at most.
const STEPS: usize = 384;
/// Panels of a group, whose block of depth stays in the second-level cache.
const NEAR: usize = 8;

/// Input rows, rounded, `stride` words apart: no power of two, so that rows do not displace each other.
pub(super) struct Rounded<'a> {
    words: &'a [u32],
    stride: usize,
    rows: usize,
}

impl Rounded<'_> {
    /// Calls `use_it` with `x`, `[rows, columns]`, rounded by `path`, in memory that is used again.
    pub(super) fn with<R>(
        path: PairsPath,
        x: &[f32],
        columns: usize,
        use_it: impl FnOnce(&Rounded<'_>) -> R,
    ) -> R {
        let (rows, line) = (x.len() / columns, 16);
        let own = columns.div_ceil(2) * path.words;
        let lines = own.div_ceil(line);
        let stride = (lines + 1 - lines % 2) * line;
        scratch::with(&PACKED_A, rows * stride, |words: &mut [u32]| {
            let to = SharedMut::new(words);
            parallel_for_ranges(rows, 4 * columns, |rows| {
                for row in rows {
                    // SAFETY: this task alone owns these rows; a path exists only where its instruction set does.
                    unsafe {
                        let words = to.slice(row * stride, own);
                        (path.round)(&x[row * columns..(row + 1) * columns], words);
                    }
                }
            });
            use_it(&Rounded { words, stride, rows })
        })
    }
}

/// The products of a task.
pub(super) fn compute(part: &Part<'_>, path: PairsPath, x: &Rounded<'_>) {
    let steps = part.weight.layout().columns.div_ceil(2);
    let few = x.rows <= FEW;
    let blocks = if few { 1 } else { steps.div_ceil(STEPS) };
    let block = steps.div_ceil(blocks);
    let row_step = x.rows.div_ceil(x.rows.div_ceil(path.rows));
    let together = if part.weight.0.waiting().is_some() { 1 } else { NEAR };
    for group in part.panels.clone().step_by(together) {
        let group = group..(group + together).min(part.panels.end);
        part.weight.0.with_panels(group.clone(), |records| {
            let panels = records.chunks_exact(steps * HALVES);
            for start in (0..steps).step_by(block) {
                let depth = start..(start + block).min(steps);
                for row in (0..x.rows).step_by(row_step) {
                    let rows = row..(row + row_step).min(x.rows);
                    for (panel, records) in group.clone().zip(panels.clone()) {
                        let records = &records[depth.start * HALVES..depth.end * HALVES];
                        tile(part, path, x, (&rows, panel, &depth, records));
                    }
                }
            }
        });
    }
}

fn tile(
    part: &Part<'_>,
    path: PairsPath,
    x: &Rounded<'_>,
    (rows, panel, depth, records): (&Range<usize>, usize, &Range<usize>, &[CacheLine]),
) {
    let outputs = part.weight.layout().rows;
    let columns = panel * PANEL..((panel + 1) * PANEL).min(outputs);
    let left = &x.words[rows.start * x.stride + depth.start * path.words..];
    let needed = (rows.len() - 1) * x.stride + depth.len() * path.words;
    assert!(needed <= left.len(), "rows {rows:?} of the inputs");
    let right: &[u32] = bytemuck::cast_slice::<CacheLine, u32>(records);
    let first = depth.start == 0;
    let bias = part.bias.filter(|_| first).map_or(std::ptr::null(), |bias| bias[columns.clone()].as_ptr());
    let extent = (rows.len() - 1) * outputs + columns.len();
    let tile = Tile {
        left: left.as_ptr(),
        stride: x.stride,
        right: right.as_ptr(),
        steps: depth.len(),
        to: part.y.offset(rows.start * outputs + columns.start, extent),
        outputs,
        rows: rows.len(),
        columns: columns.len(),
        write: if first { part.write } else { Write::Accumulate },
        bias,
    };
    // SAFETY: the operands hold what the tile says, as was just checked; this task alone owns these columns of the result; a path
    // exists only where its instruction set does.
    unsafe { (path.run)(tile) };
}
