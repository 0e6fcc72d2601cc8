//! Reading a record number by number: what paths in plain loops compute with, and what looks up rows.

use half::f16;

use super::order::Scaling;
use super::{BLOCK, HALVES, LANES, Order, PANEL, STEP};
use crate::memory::scratch::CacheLine;
use crate::quant::nf4;

/// A block of a record.
#[derive(Clone, Copy)]
pub(super) struct Block<'a> {
    order: Order,
    record: &'a [CacheLine],
    /// The first of the block's lines in it.
    first: usize,
}

impl<'a> Block<'a> {
    /// Block `index` of a record.
    pub(super) fn of(order: Order, record: &'a [CacheLine], index: usize) -> Self {
        Self { order, record, first: order.head() + index * order.block_lines() }
    }

    /// All blocks of some records.
    pub(super) fn all(order: Order, lines: &'a [CacheLine]) -> impl Iterator<Item = Self> {
        let records = lines.chunks_exact(order.lines());
        records.flat_map(move |record| (0..order.blocks()).map(move |index| Self::of(order, record, index)))
    }

    fn halves(self, line: usize) -> &'a [f16] {
        bytemuck::cast_slice(&self.record[line..=line])
    }

    /// What fold `fold` of lane `lane` is multiplied by.
    #[inline(always)]
    pub(super) fn scale(self, lane: usize, fold: usize) -> f32 {
        let own = || bytemuck::bytes_of(&self.record[self.first]);
        match self.order.scaling() {
            Scaling::One | Scaling::Two => self.halves(self.first)[lane].to_f32(),
            Scaling::Groups => self.halves(0)[lane].to_f32() * f32::from(own()[lane]),
            Scaling::Halves => {
                self.halves(0)[lane].to_f32() * f32::from(own()[fold * PANEL + lane].cast_signed())
            }
            Scaling::Wide => {
                let line = lane / LANES * self.order.block_lines();
                let scales: &[f32] = bytemuck::cast_slice(&self.record[line..=line]);
                scales[lane % LANES]
            }
        }
    }

    /// What is taken from each of a lane's columns; none where nothing is.
    #[inline(always)]
    pub(super) fn offset(self, lane: usize) -> Option<f32> {
        match self.order.scaling() {
            Scaling::Two => Some(self.halves(self.first + 1)[lane].to_f32()),
            Scaling::Groups => {
                let own = bytemuck::bytes_of(&self.record[self.first])[PANEL + lane];
                Some(self.halves(1)[lane].to_f32() * f32::from(own))
            }
            Scaling::One | Scaling::Halves | Scaling::Wide => None,
        }
    }

    /// Byte `byte` of a lane in line `line` of high bits or codes.
    #[inline(always)]
    fn byte(self, line: usize, lane: usize, byte: usize) -> u8 {
        let first = self.first + self.order.scale_lines();
        let own = &self.record[first + line * HALVES + lane / LANES];
        bytemuck::bytes_of(own)[lane % LANES * STEP + byte]
    }

    /// The integer of a lane in a column of the block, as its scale multiplies it.
    #[inline(always)]
    pub(super) fn level(self, lane: usize, column: usize) -> i32 {
        let (order, step, byte) = (self.order, column / STEP, column % STEP);
        if order.bits() == 8 {
            return i32::from(self.byte(step, lane, byte)) - order.zero();
        }
        let place = Place::of(order, step);
        let code = self.byte(order.high() + place.line, lane, byte);
        let low = if place.upper { code >> 4 } else { code & 15 };
        if order == Order::Nf4 {
            return i32::from(nf4::INT8_CODEBOOK[usize::from(low)]);
        }
        let high = match order.high() {
            0 => 0,
            bits => self.byte(place.fold, lane, byte) >> place.shift & ((1 << bits) - 1),
        };
        i32::from(high << 4 | low) - order.zero()
    }

    /// Widens a lane's columns of the block from `from` on into `out`.
    #[inline(always)]
    pub(super) fn widen(self, lane: usize, from: usize, out: &mut [f32]) {
        let folds = self.order.folds();
        let scales: [f32; 2] = std::array::from_fn(|fold| self.scale(lane, fold % folds));
        let offset = self.offset(lane).unwrap_or(0.0);
        for (column, out) in (from..BLOCK).zip(out) {
            *out = self.level(lane, column) as f32 * scales[column * folds / BLOCK] - offset;
        }
    }
}

/// Where a step of up to six bits lies in its block.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) fold: usize,
    /// Its line of codes, and whether it has the upper halves of their bytes.
    pub(super) line: usize,
    pub(super) upper: bool,
    /// The lowest of its high bits in a byte of those.
    pub(super) shift: usize,
}

impl Place {
    #[inline(always)]
    pub(super) fn of(order: Order, step: usize) -> Self {
        let lines = order.code_lines() / order.folds();
        let (fold, within) = (step / (2 * lines), step % (2 * lines));
        let (upper, line) = (within >= lines, within % lines);
        let shift = if upper { 4 - order.high() * (line + 1) } else { 4 + order.high() * line };
        Self { fold, line: fold * lines + line, upper, shift }
    }
}
