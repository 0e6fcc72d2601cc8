//! Reading an interleaved block value by value: for the portable microkernel, and to look up single rows.

use half::f16;

use super::layout::{BLOCK, HALVES, LANES, PANEL, PackedLayout, STEP, ScaleKind, StepPosition};
use crate::memory::scratch::CacheLine;
use crate::quant::nf4;

/// 32 columns of an interleaved block.
#[derive(Clone, Copy)]
pub(crate) struct InterleavedBlock<'a> {
    layout: PackedLayout,
    /// The whole interleaved block.
    lines: &'a [CacheLine],
    /// The first line of these columns.
    first: usize,
}

impl<'a> InterleavedBlock<'a> {
    /// Block `index` of the interleaved block in `lines`.
    pub(crate) fn of(layout: PackedLayout, lines: &'a [CacheLine], index: usize) -> Self {
        Self { layout, lines, first: layout.header_lines() + index * layout.block_lines() }
    }

    /// All blocks of some interleaved blocks.
    pub(crate) fn all(layout: PackedLayout, lines: &'a [CacheLine]) -> impl Iterator<Item = Self> {
        let each = lines.chunks_exact(layout.lines());
        each.flat_map(move |lines| (0..layout.blocks()).map(move |index| Self::of(layout, lines, index)))
    }

    fn f16_line(self, line: usize) -> &'a [f16] {
        bytemuck::cast_slice(&self.lines[line..=line])
    }

    /// The scale of a lane in a sub-block.
    #[inline(always)]
    pub(crate) fn scale(self, lane: usize, sub_block: usize) -> f32 {
        let own = || bytemuck::bytes_of(&self.lines[self.first]);
        match self.layout.scale_kind() {
            ScaleKind::PerBlock | ScaleKind::PerBlockWithMin => self.f16_line(self.first)[lane].to_f32(),
            ScaleKind::SuperBlock => self.f16_line(0)[lane].to_f32() * f32::from(own()[lane]),
            ScaleKind::SuperBlockOfHalves => {
                self.f16_line(0)[lane].to_f32() * f32::from(own()[sub_block * PANEL + lane].cast_signed())
            }
            ScaleKind::PerTwoBlocks => {
                let line = lane / LANES * self.layout.block_lines();
                let scales: &[f32] = bytemuck::cast_slice(&self.lines[line..=line]);
                scales[lane % LANES]
            }
        }
    }

    /// The minimum that is subtracted from a lane's values; `None` where the layout has none.
    #[inline(always)]
    pub(crate) fn min(self, lane: usize) -> Option<f32> {
        match self.layout.scale_kind() {
            ScaleKind::PerBlockWithMin => Some(self.f16_line(self.first + 1)[lane].to_f32()),
            ScaleKind::SuperBlock => {
                let own = bytemuck::bytes_of(&self.lines[self.first])[PANEL + lane];
                Some(self.f16_line(1)[lane].to_f32() * f32::from(own))
            }
            ScaleKind::PerBlock | ScaleKind::SuperBlockOfHalves | ScaleKind::PerTwoBlocks => None,
        }
    }

    /// Byte `byte` of a lane in line `line` of high bits or quants.
    #[inline(always)]
    fn byte(self, line: usize, lane: usize, byte: usize) -> u8 {
        let first = self.first + self.layout.scale_lines();
        let own = &self.lines[first + line * HALVES + lane / LANES];
        bytemuck::bytes_of(own)[lane % LANES * STEP + byte]
    }

    /// The quant of a lane in a column, zero point subtracted, as its scale multiplies it.
    #[inline(always)]
    pub(crate) fn quant(self, lane: usize, column: usize) -> i32 {
        let (layout, step, byte) = (self.layout, column / STEP, column % STEP);
        if layout.bits() == 8 {
            return i32::from(self.byte(step, lane, byte)) - layout.zero_point();
        }
        let position = StepPosition::of(layout, step);
        let nibbles = self.byte(layout.high_bits() + position.line, lane, byte);
        let low = if position.is_high_nibble { nibbles >> 4 } else { nibbles & 15 };
        if layout == PackedLayout::Nf4 {
            return i32::from(nf4::INT8_CODEBOOK[usize::from(low)]);
        }
        let high = match layout.high_bits() {
            0 => 0,
            bits => self.byte(position.sub_block, lane, byte) >> position.shift & ((1 << bits) - 1),
        };
        i32::from(high << 4 | low) - layout.zero_point()
    }

    /// Widens a lane's columns from `from` on into `out`.
    #[inline(always)]
    pub(crate) fn widen(self, lane: usize, from: usize, out: &mut [f32]) {
        let sub_blocks = self.layout.sub_blocks();
        let scales: [f32; 2] = std::array::from_fn(|sub_block| self.scale(lane, sub_block % sub_blocks));
        let min = self.min(lane).unwrap_or(0.0);
        for (column, out) in (from..BLOCK).zip(out) {
            *out = self.quant(lane, column) as f32 * scales[column * sub_blocks / BLOCK] - min;
        }
    }
}
