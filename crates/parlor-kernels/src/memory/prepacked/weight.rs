//! The handle of a prepacked weight, shared between tensors, and a view of some of its elements.

use std::ops::Range;
use std::sync::Arc;

use half::bf16;

use super::block::InterleavedBlock;
use super::layout::{BLOCK, PANEL, PackedLayout, StaticLayout, with_layout};
use super::source::{MappedSource, PackSource};
use super::storage::{PanelGrid, PanelStorage};
use crate::memory::scratch::CacheLine;

/// A prepacked weight, `[rows, columns]`. Clones share the panels.
#[derive(Clone, Debug)]
pub struct PrepackedWeight(Arc<PanelStorage>);

impl PrepackedWeight {
    /// Packs `weight` now; `None` where its rows are no whole interleaved blocks.
    ///
    /// # Panics
    /// When `weight` is no whole number of rows.
    pub(crate) fn new(weight: PackSource<'_>, columns: usize) -> Option<Self> {
        Some(Self(Arc::new(PanelStorage::pack_now(weight, columns)?)))
    }

    /// As [`Self::new`], but `source` is packed at its second product.
    pub(crate) fn lazy(source: MappedSource, columns: usize) -> Option<Self> {
        Some(Self(Arc::new(PanelStorage::pack_lazily(source, columns)?)))
    }

    pub(crate) fn grid(&self) -> PanelGrid {
        self.0.grid()
    }

    /// The panels, for products.
    pub(crate) fn storage(&self) -> &PanelStorage {
        &self.0
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.grid().rows * self.grid().columns
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that the panels take.
    pub fn bytes(&self) -> usize {
        self.grid().lines() * size_of::<CacheLine>()
    }

    /// Widens row `row` from column `from` on into `out`.
    pub fn widen(&self, row: usize, from: usize, out: &mut [f32]) {
        let PanelGrid { layout, columns, .. } = self.grid();
        if let Some(source) = self.0.unpacked_source() {
            let start = row * columns + from;
            return source.slice(start..start + out.len()).widen_into(out);
        }
        let (panel, lane) = (row / PANEL, row % PANEL);
        if layout == PackedLayout::Bf16Pairs {
            let pairs: &[[bf16; 2]] = bytemuck::cast_slice(self.blocks(panel, 0..columns.div_ceil(2)));
            for (column, out) in (from..).zip(out) {
                *out = pairs[column / 2 * PANEL + lane][column % 2].to_f32();
            }
            return;
        }
        let (mut column, mut out) = (from, out);
        while !out.is_empty() {
            let (block, within) = (column / BLOCK, column % BLOCK);
            let (own, rest) = out.split_at_mut((BLOCK - within).min(out.len()));
            let (interleaved, block) = (block / layout.blocks(), block % layout.blocks());
            let lines = self.blocks(panel, interleaved..interleaved + 1);
            with_layout!(layout, L => InterleavedBlock::of(L::LAYOUT, lines, block).widen(lane, within, own));
            column += own.len();
            out = rest;
        }
    }

    /// All elements.
    pub fn view(&self) -> PrepackedView<'_> {
        PrepackedView { packed: self, start: 0, len: self.len() }
    }

    /// The lines of some interleaved blocks of a panel.
    pub(crate) fn blocks(&self, panel: usize, own: Range<usize>) -> &[CacheLine] {
        let (all, lines) = (self.grid().blocks_per_panel(), self.grid().layout.lines());
        &self.0.all()[(panel * all + own.start) * lines..(panel * all + own.end) * lines]
    }
}

/// A range of the elements of a [`PrepackedWeight`].
#[derive(Clone, Copy, Debug)]
pub struct PrepackedView<'a> {
    packed: &'a PrepackedWeight,
    start: usize,
    len: usize,
}

impl<'a> PrepackedView<'a> {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The weight and the number of the first element in it.
    pub(crate) fn weight_and_start(self) -> (&'a PrepackedWeight, usize) {
        (self.packed, self.start)
    }

    /// The whole weight, when this is all of it.
    pub fn whole(self) -> Option<&'a PrepackedWeight> {
        (self.len == self.packed.len()).then_some(self.packed)
    }

    /// The same elements, row-major, while a lazy weight is not packed yet.
    pub(crate) fn unpacked_source(self) -> Option<PackSource<'a>> {
        let source = self.packed.0.unpacked_source()?;
        Some(source.slice(self.start..self.start + self.len))
    }

    /// The bytes of the whole weight.
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

    /// Widens into `out`, which has the same length.
    pub fn widen_into(self, out: &mut [f32]) {
        assert_eq!(out.len(), self.len, "room for the elements of a view");
        let (columns, mut at, mut out) = (self.packed.grid().columns, self.start, out);
        while !out.is_empty() {
            let (row, from) = (at / columns, at % columns);
            let (own, rest) = out.split_at_mut((columns - from).min(out.len()));
            self.packed.widen(row, from, own);
            at += own.len();
            out = rest;
        }
    }
}
