//! Frozen weights of 8 or 4 bits in the order in which a product of integers reads them, and that product.
//!
//! A *panel* is 32 rows of the weight in two halves of 16, their lanes. Block after block of 32 columns it holds, half after half,
//! eight *steps* of four columns: the four bytes of lane 0, those of lane 1, and so on, 64 bytes in all. A thread reads
//! its panels from one end to the other. One instruction (`vpdpbusd`, as the AVX-512 VNNI
//! extension has it) multiplies a step by the same four columns of an input row and adds the four products to each lane's
//! sum. At 4 bits the low halves of 64 bytes are one step and the high halves the one four steps later.
//!
//! Weights are stored with an offset that makes them unsigned, which that instruction wants of one of its operands; what
//! the offset adds to a sum depends on the input alone and is where the sum begins. Inputs are rounded to 8 bits in blocks of 32
//! with one f32 scale each (the rule of `Q8_0`), and sums over a block are exact. A result does not depend on the
//! instruction set, on threads, or on which rows it is computed with.
//!
//! Sources: GGUF's `Q8_0` and `Q4_0`, whose numbers these are; the interleaving is this crate's own.
//! Leaves out: NF4, whose levels are no integers; columns that are no multiple of 32.

#[cfg(target_arch = "x86_64")]
mod avx512;
mod inputs;
mod portable;

use std::ops::Range;

use half::f16;
use rayon::prelude::*;

use crate::pointer::SharedMut;
use crate::scratch::Line;
use crate::threads::share_out;
use crate::{BlockFormat, BlockView, Write};

pub use inputs::Inputs;

/// Rows of half a panel.
const LANES: usize = 16;
/// Columns of a block, and of a step.
const BLOCK: usize = 32;
const STEP: usize = 4;
/// Halves of a panel: each value of an input is fetched once for both.
const HALVES: usize = 2;
/// Rows of a panel.
const PANEL: usize = HALVES * LANES;
/// Input rows that pass by a panel at a time: their sums stay in the nearest cache.
const ROWS: usize = 128;

/// A weight, `[rows, columns]`.
#[derive(Clone, Debug)]
pub struct Packed {
    format: BlockFormat,
    rows: usize,
    columns: usize,
    /// `[panel][block][half][line]`, of which there are 8 or 4.
    codes: Vec<Line>,
    /// `[panel][block][half][lane]`.
    scales: Vec<f16>,
}

/// One way to compute.
#[derive(Clone, Copy)]
pub struct PackedPath {
    name: &'static str,
    run: Run,
}

/// Adds the products of a panel with some input rows to `sums`, `[rows][32]`.
type Run = unsafe fn(&Panel<'_>, &Inputs, Range<usize>, &mut [f32]);

struct Panel<'a> {
    format: BlockFormat,
    codes: &'a [Line],
    scales: &'a [f16],
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
        if is_x86_feature_detected!("avx512vnni") && is_x86_feature_detected!("avx512bw") {
            paths.push(Self { name: "avx512vnni", run: avx512::run });
        }
        paths.push(Self { name: "portable", run: portable::run });
        paths
    }

    /// The fastest.
    pub fn best() -> Self {
        static BEST: std::sync::OnceLock<PackedPath> = std::sync::OnceLock::new();
        *BEST.get_or_init(|| Self::available()[0])
    }
}

/// 64-byte lines of a block.
fn lines(format: BlockFormat) -> usize {
    if format == BlockFormat::Q4_0 { 4 } else { 8 }
}

impl Packed {
    /// Whether weights of this format and width can be packed.
    pub fn fits(format: BlockFormat, columns: usize) -> bool {
        matches!(format, BlockFormat::Q8_0 | BlockFormat::Q4_0)
            && columns > 0
            && columns.is_multiple_of(BLOCK)
    }

    /// Packs `weight`, `[rows, columns]`; none where it does not [`fit`](Self::fits).
    ///
    /// # Panics
    /// When `weight` is no whole number of rows.
    pub fn new(weight: BlockView<'_>, columns: usize) -> Option<Self> {
        let format = weight.format();
        if !Self::fits(format, columns) {
            return None;
        }
        let rows = weight.len() / columns;
        assert_eq!(weight.len(), rows * columns, "whole rows");
        let (blocks, per_block) = (columns / BLOCK, lines(format));
        let panels = rows.div_ceil(PANEL);
        let mut codes: Vec<Line> = bytemuck::allocation::zeroed_vec(panels * blocks * HALVES * per_block);
        let mut scales: Vec<f16> = bytemuck::allocation::zeroed_vec(panels * blocks * PANEL);
        let parts = codes
            .par_chunks_mut((blocks * HALVES * per_block).max(1))
            .zip(scales.par_chunks_mut((blocks * PANEL).max(1)));
        parts.enumerate().for_each(|(panel, (codes, scales))| {
            for row in 0..PANEL.min(rows - panel * PANEL) {
                let at = (panel * PANEL + row) * columns;
                let own = weight.slice(at..at + columns);
                let (half, lane) = (row / LANES, row % LANES);
                for block in 0..blocks {
                    let (scale, values) = own.integers(block);
                    scales[block * PANEL + row] = scale;
                    let at = (block * HALVES + half) * per_block;
                    put(format, lane, values, bytemuck::cast_slice_mut(&mut codes[at..at + per_block]));
                }
            }
        });
        Some(Self { format, rows, columns, codes, scales })
    }

    /// The format.
    pub fn format(&self) -> BlockFormat {
        self.format
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.rows * self.columns
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        size_of_val(self.codes.as_slice()) + size_of_val(self.scales.as_slice())
    }

    /// Widens row `row` from column `from` on into `out`.
    pub fn widen(&self, row: usize, from: usize, out: &mut [f32]) {
        let (panel, half, lane) = (row / PANEL, row % PANEL / LANES, row % LANES);
        let (blocks, per_block) = (self.columns / BLOCK, lines(self.format));
        for (column, out) in (from..).zip(out) {
            let (block, within) = (panel * blocks + column / BLOCK, column % BLOCK);
            let at = (block * HALVES + half) * per_block;
            let bytes: &[u8] = bytemuck::cast_slice(&self.codes[at..at + per_block]);
            let (step, byte) = (within / STEP, within % STEP);
            let at = |line: usize| bytes[line * 64 + lane * STEP + byte];
            let value = match self.format {
                BlockFormat::Q4_0 if step < 4 => i32::from(at(step) & 15) - 8,
                BlockFormat::Q4_0 => i32::from(at(step - 4) >> 4) - 8,
                _ => i32::from(at(step)) - 128,
            };
            *out = value as f32 * self.scales[block * PANEL + row % PANEL].to_f32();
        }
    }

    /// All elements.
    pub fn view(&self) -> PackedView<'_> {
        PackedView { packed: self, start: 0, len: self.len() }
    }

    fn panel(&self, index: usize) -> Panel<'_> {
        let blocks = self.columns / BLOCK;
        let (lines, scales) = (blocks * HALVES * lines(self.format), blocks * PANEL);
        Panel {
            format: self.format,
            codes: &self.codes[index * lines..(index + 1) * lines],
            scales: &self.scales[index * scales..(index + 1) * scales],
        }
    }
}

/// A range of the elements of [`Packed`].
#[derive(Clone, Copy, Debug)]
pub struct PackedView<'a> {
    packed: &'a Packed,
    start: usize,
    len: usize,
}

impl<'a> PackedView<'a> {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The whole weight, when this is it.
    pub fn whole(self) -> Option<&'a Packed> {
        (self.len == self.packed.len()).then_some(self.packed)
    }

    /// The bytes of the whole, without its scales.
    pub(crate) fn codes(self) -> &'a [u8] {
        bytemuck::cast_slice(&self.packed.codes)
    }

    /// The elements `range`.
    ///
    /// # Panics
    /// When `range` is out of bounds.
    pub fn slice(self, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= self.len, "elements {range:?} of {}", self.len);
        Self { start: self.start + range.start, len: range.len(), ..self }
    }

    /// Widens into `out`, which has this length.
    pub fn widen_into(self, out: &mut [f32]) {
        assert_eq!(out.len(), self.len, "room for the elements of a view");
        let (columns, mut at, mut out) = (self.packed.columns, self.start, out);
        while !out.is_empty() {
            let (row, from) = (at / columns, at % columns);
            let (own, rest) = out.split_at_mut((columns - from).min(out.len()));
            self.packed.widen(row, from, own);
            at += own.len();
            out = rest;
        }
    }
}

/// Stores a block's values, as they are in its format, in a lane.
fn put(format: BlockFormat, lane: usize, values: [i8; BLOCK], out: &mut [u8]) {
    for (column, value) in values.into_iter().enumerate() {
        let (step, byte) = (column / STEP, lane * STEP + column % STEP);
        match format {
            BlockFormat::Q4_0 => {
                let level = (value + 8).cast_unsigned();
                out[step % 4 * 64 + byte] |= if step < 4 { level } else { level << 4 };
            }
            _ => out[step * 64 + byte] = value.cast_unsigned() ^ 0x80,
        }
    }
}

/// What the offset of a format adds to each product, in units of the input.
fn offset(format: BlockFormat) -> i32 {
    if format == BlockFormat::Q4_0 { 8 } else { 128 }
}

/// `y[rows, weight rows] (+)= x W^T` by `path`.
///
/// # Panics
/// When `x` or `y` do not fit the weight.
pub fn forward(path: PackedPath, x: &Inputs, weight: &Packed, y: &mut [f32], write: Write) {
    let (rows, outputs) = (x.rows(), weight.rows);
    assert!(
        x.columns() == weight.columns && y.len() == rows * outputs,
        "inputs of {} columns by {rows} rows and a weight of {outputs} by {} into {} values",
        x.columns(),
        weight.columns,
        y.len(),
    );
    if y.is_empty() {
        return;
    }
    let panels = outputs.div_ceil(PANEL);
    let panel_bytes = weight.columns * PANEL * lines(weight.format) / 8;
    let y = SharedMut::new(y);
    share_out(panels, panel_bytes, |own_panels| {
        let mut sums = vec![0.0; ROWS.min(rows) * PANEL];
        for panel in own_panels {
            let columns = panel * PANEL..((panel + 1) * PANEL).min(outputs);
            let panel = weight.panel(panel);
            for start in (0..rows).step_by(ROWS) {
                let rows = start..(start + ROWS).min(rows);
                let sums = &mut sums[..rows.len() * PANEL];
                sums.fill(0.0);
                // SAFETY: a path exists only where its instruction set does.
                unsafe { (path.run)(&panel, x, rows.clone(), sums) };
                for (row, sums) in rows.zip(sums.chunks_exact(PANEL)) {
                    // SAFETY: this task alone owns these columns.
                    let to = unsafe { y.slice(row * outputs + columns.start, columns.len()) };
                    for (to, sum) in to.iter_mut().zip(sums) {
                        *to = if write == Write::Replace { *sum } else { *to + *sum };
                    }
                }
            }
        }
    });
}
