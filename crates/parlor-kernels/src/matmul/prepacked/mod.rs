//! Weights in the order in which products read them, packed once when a model is loaded to answer, or used for the second time
//! ([`records`]).
//!
//! A *panel* is 32 rows of the weight, its lanes; a thread reads its panels from one end to the other, in one stream.
//!
//! - 4 to 8 bits ([`integers`]): a panel holds a record for every block of 32 columns: the lanes' scales (one line of 64 bytes), then
//!   eight *steps* of four columns: the four bytes of lane 0, those of lane 1, and so on, a line for either half of the lanes.
//!   One instruction (`vpdpbusd`) multiplies a step by the same four columns of an input row and adds the four
//!   products to each lane's sum. At 4 bits the low halves of bytes are one step and the high halves the one four steps later.
//!   Weights are stored with an offset that makes them unsigned, which that instruction wants of one of its
//!   operands; what the offset adds to a sum depends on the input alone and is where the sum begins. Levels that have no sign in
//!   their format have an offset that is no integer; what it takes from a sum is added to it beside.
//!   How the formats differ in their records: [`order`].
//! - bf16 ([`pairs`]): a panel holds, for every two columns, the pairs of all lanes, two lines: what `vpdpbf16ps` takes.
//!
//! Sources: GGUF's formats and bitsandbytes' NF4, whose numbers these are, but that the levels of NF4 are rounded to whole 112ths of
//! the scale; the interleaving is this crate's own.
//! Leaves out: rows whose columns are no whole records (32, 64 or 256).

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod formats;
mod inputs;
mod integers;
#[cfg(target_arch = "aarch64")]
mod neon;
mod order;
mod packing;
mod pairs;
mod parts;
mod portable;
mod record;
mod records;
mod widened;

use std::ops::Range;
use std::sync::Arc;

use half::bf16;

use crate::memory::scratch::CacheLine;
use crate::{Tensor, View};
use order::{Kind, Order, by_kind, kinds};
use record::Block;
use records::{Layout, Records};

pub use inputs::Inputs;
pub use integers::PackedPath;
pub use pairs::PairsPath;
pub use parts::{Output, forward, forward_bf16};
pub(crate) use parts::{are_widened, forward_best};
pub(crate) use widened::widen_panels;

/// Rows of half a panel.
const LANES: usize = 16;
/// Columns of a block, and of a step.
const BLOCK: usize = 32;
const STEP: usize = 4;
/// Halves of a panel: each value of an input is fetched once for both.
const HALVES: usize = 2;
/// Rows of a panel.
const PANEL: usize = HALVES * LANES;

/// Bytes of a line.
const LINE: usize = size_of::<CacheLine>();

/// Bytes that are packed before their source is let go of.
const RUN: usize = 8 << 20;

/// A weight, `[rows, columns]`.
#[derive(Clone, Debug)]
pub struct Packed(Arc<Records>);

impl Packed {
    /// Packs `weight`, `[rows, columns]`; none where its format or its width cannot be.
    ///
    /// # Panics
    /// When `weight` is no whole number of rows.
    pub fn new(weight: View<'_>, columns: usize) -> Option<Self> {
        Self::with_each(weight, columns, |_| ())
    }

    /// As [`Self::new`], and calls `done` with runs of elements that are packed, which may be let go of.
    pub(crate) fn with_each(weight: View<'_>, columns: usize, done: impl Fn(Range<usize>)) -> Option<Self> {
        let layout = Layout::of(weight, columns)?;
        Some(Self(Arc::new(Records::new(layout, layout.pack_all(weight, done)))))
    }

    /// As [`Self::new`], of a tensor in a mapped file, which is packed at its second product.
    pub(crate) fn later(weight: &Tensor) -> Option<Self> {
        let layout = Layout::of(weight.view(), *weight.shape().last()?)?;
        Some(Self(Arc::new(Records::of_later(layout, weight.clone()))))
    }

    fn layout(&self) -> Layout {
        self.0.layout()
    }

    /// Packs a weight that waits, now.
    pub(crate) fn pack(&self) {
        self.0.all();
    }

    /// To be called before a product with it, by no task of one: a weight that waits is packed unless this is its first.
    pub(crate) fn before_product(&self) {
        self.0.before_product();
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.layout().rows * self.layout().columns
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        self.layout().lines() * size_of::<CacheLine>()
    }

    /// Widens row `row` from column `from` on into `out`.
    pub fn widen(&self, row: usize, from: usize, out: &mut [f32]) {
        let Layout { order, columns, .. } = self.layout();
        if let Some(source) = self.0.waiting() {
            let start = row * columns + from;
            return source.view().widen_range(start..start + out.len(), out);
        }
        let (panel, lane) = (row / PANEL, row % PANEL);
        if order == Order::Pairs {
            let pairs: &[[bf16; 2]] = bytemuck::cast_slice(self.records(panel, 0..columns.div_ceil(2)));
            for (column, out) in (from..).zip(out) {
                *out = pairs[column / 2 * PANEL + lane][column % 2].to_f32();
            }
            return;
        }
        let (mut column, mut out) = (from, out);
        while !out.is_empty() {
            let (block, within) = (column / BLOCK, column % BLOCK);
            let (own, rest) = out.split_at_mut((BLOCK - within).min(out.len()));
            let (record, block) = (block / order.blocks(), block % order.blocks());
            let record = self.records(panel, record..record + 1);
            by_kind!(order, K => Block::of(K::ORDER, record, block).widen(lane, within, own));
            column += own.len();
            out = rest;
        }
    }

    /// All elements.
    pub fn view(&self) -> PackedView<'_> {
        PackedView { packed: self, start: 0, len: self.len() }
    }

    /// Some records of a panel.
    fn records(&self, panel: usize, own: Range<usize>) -> &[CacheLine] {
        let (all, lines) = (self.layout().records(), self.layout().order.lines());
        &self.0.all()[(panel * all + own.start) * lines..(panel * all + own.end) * lines]
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

    /// The same elements in the order of rows, while the weight waits to be packed.
    pub(crate) fn waiting(self) -> Option<View<'a>> {
        let source = self.packed.0.waiting()?;
        Some(source.view().slice(self.start..self.start + self.len))
    }

    /// The bytes of the whole.
    pub(crate) fn bytes(self) -> &'a [u8] {
        bytemuck::cast_slice::<CacheLine, u8>(self.packed.0.all())
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
        let (columns, mut at, mut out) = (self.packed.layout().columns, self.start, out);
        while !out.is_empty() {
            let (row, from) = (at / columns, at % columns);
            let (own, rest) = out.split_at_mut((columns - from).min(out.len()));
            self.packed.widen(row, from, own);
            at += own.len();
            out = rest;
        }
    }
}
