//! The product of packed weights of 4 to 8 bits with inputs that are rounded to 8 bits.
//!
//! Sums over a block of 32 are exact integers; blocks are added in f32, one after the other. So a result depends neither on
//! the instruction set, nor on threads, nor on the rows that it is computed with.

use std::ops::Range;

use super::inputs::BlockOf;
use super::parts::Part;
use super::records::Layout;
use super::{BLOCK, Inputs, Order, PANEL};
use crate::Write;
#[cfg(target_arch = "aarch64")]
use crate::cpu::isa::{self, Isa};
use crate::memory::scratch::{self, CacheLine, UNPACKED_QUANTS};
use crate::quant::k_quants::SUB_BLOCKS;

/// One way to compute.
#[derive(Clone, Copy)]
pub struct PackedPath {
    name: &'static str,
    /// Input rows of a tile, at most.
    rows: usize,
    run: Run,
    /// Makes records of [`Order::unpacked`], where many rows gain by that.
    unpack: Option<Unpack>,
}

/// Computes the products of a tile.
type Run = unsafe fn(Tile<'_>, Sums);
type Unpack = unsafe fn(Order, &[CacheLine], &mut [CacheLine]);

/// Where a tile's sums go: rows of 32, `stride` apart.
#[derive(Clone, Copy)]
pub(super) struct Sums {
    pub(super) to: *mut f32,
    pub(super) stride: usize,
    pub(super) rows: usize,
    /// Whether they begin with zero, or with what is there.
    pub(super) fresh: bool,
    /// Rows of the result, so far apart, which are needed after the sums and may be asked for before; they need not be there.
    pub(super) soon: (*const f32, usize),
}

impl Sums {
    /// A row, which begins as it should.
    ///
    /// # Safety
    /// The row is there, and nobody else looks at it.
    pub(super) unsafe fn begin<'a>(self, row: usize) -> &'a mut [f32] {
        // SAFETY: the contract of the caller.
        let own = unsafe { std::slice::from_raw_parts_mut(self.to.add(row * self.stride), PANEL) };
        if self.fresh {
            own.fill(0.0);
        }
        own
    }
}

/// Some blocks of a panel and as many of some input rows.
#[derive(Clone, Copy)]
pub(super) struct Tile<'a> {
    pub(super) order: Order,
    /// Records of the blocks.
    pub(super) lines: &'a [CacheLine],
    /// Codes of the first row's first block, and those of all that follow; rows are `stride` blocks apart.
    pub(super) codes: &'a [[i8; BLOCK]],
    pub(super) about: &'a [BlockOf],
    pub(super) stride: usize,
}

impl Tile<'_> {
    /// The number of blocks, after a look whether so many rows have them.
    pub(super) fn blocks(&self, rows: usize) -> usize {
        let blocks = self.lines.len() / self.order.lines() * self.order.blocks();
        assert!(
            blocks == 0
                || rows == 0
                || (rows - 1) * self.stride + blocks <= self.codes.len().min(self.about.len()),
            "{rows} rows of {blocks} blocks"
        );
        blocks
    }
}

impl PackedPath {
    /// A name for messages.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Every way this machine has, the fastest first.
    pub fn available() -> Vec<Self> {
        let mut paths = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            if super::avx512::here() {
                use super::avx512::{ROWS, tile, unpack};
                paths.push(Self { name: "avx512vnni", rows: ROWS, run: tile, unpack: Some(unpack) });
            }
            if super::avx2::here() {
                let (rows, run) = (super::avx2::ROWS, super::avx2::tile as Run);
                paths.push(Self { name: "avx2", rows, run, unpack: None });
            }
        }
        #[cfg(target_arch = "aarch64")]
        if isa::allows(Isa::Neon) {
            use std::arch::is_aarch64_feature_detected;

            use super::neon::{ROWS, tile_dots, tile_matrices, tile_plain};
            let dots = is_aarch64_feature_detected!("dotprod");
            let matrices = dots && is_aarch64_feature_detected!("i8mm");
            let path = |name, run: Run| Self { name, rows: ROWS, run, unpack: None };
            paths.extend(matrices.then(|| path("i8mm", tile_matrices)));
            paths.extend(dots.then(|| path("dotprod", tile_dots)));
            paths.push(path("neon", tile_plain));
        }
        let (rows, run) = (super::portable::ROWS, super::portable::tile as Run);
        paths.push(Self { name: "portable", rows, run, unpack: None });
        paths
    }

    /// The fastest.
    pub fn best() -> Self {
        static BEST: std::sync::OnceLock<PackedPath> = std::sync::OnceLock::new();
        *BEST.get_or_init(|| Self::available()[0])
    }
}

/// Input rows up to which reading the weights takes the time: then the rows meet a few blocks of a panel while these are in the
/// nearest cache, and what follows is already on its way.
const FEW: usize = 16;
/// Those blocks: whole records.
const NEAR: usize = SUB_BLOCKS;

/// Bytes of panels that many rows meet together: they stay in the second cache while rows pass by, whose inputs are read that
/// much less often, and whose sums are written so far without a step.
const GROUP: usize = 256 << 10;

/// Rows from which on levels of few bits are taken apart once for all: that costs what two or three tiles spend on it.
const MANY: usize = 32;

/// The products of a task.
pub(super) fn compute(part: &Part<'_>, path: PackedPath, x: &Inputs) {
    let stored = part.weight.layout();
    let unpack = path.unpack.filter(|_| x.rows() >= MANY && stored.order != stored.order.unpacked());
    let layout = if unpack.is_some() { Layout { order: stored.order.unpacked(), ..stored } } else { stored };
    let panel = layout.panel() * size_of::<CacheLine>();
    let group = if x.rows() <= FEW { 1 } else { (GROUP / panel).max(1) };
    let mut sums = [0.0f32; FEW * PANEL];
    for first in part.panels.clone().step_by(group) {
        let panels = first..(first + group).min(part.panels.end);
        part.weight.0.with_panels(panels.clone(), |records| {
            let Some(unpack) = unpack else {
                return meet(part, path, x, (panels, layout, records), &mut sums);
            };
            scratch::with(&UNPACKED_QUANTS, panels.len() * layout.panel(), |lines: &mut [CacheLine]| {
                // SAFETY: a path exists only where its instruction set does.
                unsafe { unpack(stored.order, records, lines) };
                meet(part, path, x, (panels, layout, lines), &mut sums);
            });
        });
    }
}

/// The products of some panels; `sums` has room for those that are not made in the result itself.
fn meet(
    part: &Part<'_>,
    path: PackedPath,
    x: &Inputs,
    (panels, layout, records): (Range<usize>, Layout, &[CacheLine]),
    sums: &mut [f32; FEW * PANEL],
) {
    let (rows, blocks, outputs) = (x.rows(), x.columns() / BLOCK, layout.rows);
    let tiles = rows.div_ceil(path.rows);
    let step = rows.div_ceil(tiles);
    let near = if rows > path.rows && rows <= FEW { NEAR } else { blocks };
    let (per_record, lines) = (layout.order.blocks(), layout.order.lines());
    // Few rows: all of them over a few blocks, then over the next. Many: some over the whole panel.
    let together = if rows <= FEW { rows } else { step };
    for first in (0..rows).step_by(together) {
        for (panel, records) in panels.clone().zip(records.chunks_exact(layout.panel())) {
            let rows = first..(first + together).min(rows);
            let columns = PANEL.min(outputs - panel * PANEL);
            let extent = (rows.len() - 1) * outputs + columns;
            let result = part.y.offset(rows.start * outputs + panel * PANEL, extent);
            // Sums are made in the result itself when nothing else becomes of them.
            let direct = columns == PANEL && part.bias.is_none() && part.write == Write::Replace;
            let (to, stride) = if direct { (result, outputs) } else { (sums.as_mut_ptr(), PANEL) };
            for block in (0..blocks).step_by(near) {
                let own = block / per_record * lines..(block + near).min(blocks) / per_record * lines;
                let records = &records[own];
                for row in rows.clone().step_by(step) {
                    let count = step.min(rows.end - row);
                    let to = to.wrapping_add((row - rows.start) * stride);
                    let soon = (result.wrapping_add((row - rows.start) * outputs).cast_const(), outputs);
                    let own = Sums { to, stride, rows: count, fresh: block == 0, soon };
                    let at = row * blocks + block;
                    let tile = Tile {
                        order: layout.order,
                        lines: records,
                        codes: &x.codes()[at..],
                        about: &x.about()[at..],
                        stride: blocks,
                    };
                    // SAFETY: a path exists only where its instruction set does; the sums are rows of the buffer, which has
                    // room for them, or of the result, as was checked.
                    unsafe { (path.run)(tile, own) };
                }
            }
            if !direct {
                let len = rows.len() * PANEL;
                write(part, panel, rows, &mut sums[..len]);
            }
        }
    }
}

/// Puts a panel's sums where they belong.
fn write(part: &Part<'_>, panel: usize, rows: Range<usize>, sums: &mut [f32]) {
    let outputs = part.weight.layout().rows;
    let columns = panel * PANEL..((panel + 1) * PANEL).min(outputs);
    let bias = part.bias.map(|bias| &bias[columns.clone()]);
    for (row, sums) in rows.zip(sums.chunks_exact_mut(PANEL)) {
        // SAFETY: this task alone owns these columns.
        let to = unsafe { part.y.slice(row * outputs + columns.start, columns.len()) };
        for (sum, bias) in sums.iter_mut().zip(bias.unwrap_or_default()) {
            *sum += bias;
        }
        match part.write {
            Write::Replace => to.copy_from_slice(&sums[..to.len()]),
            Write::Accumulate => to.iter_mut().zip(sums).for_each(|(to, sum)| *to += *sum),
        }
    }
}
