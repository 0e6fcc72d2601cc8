//! The layouts of prepacked weights, byte by byte.
//!
//! A *panel* is 32 rows of the weight, one per *lane*; a thread reads its panels from one end to the other, in one stream. A line is
//! a cache line of 64 bytes. Lanes 0..16 are half 0 of a panel, lanes 16..32 half 1.
//!
//! bf16 (`Bf16Pairs`): for every two columns, the bf16 pairs of all lanes, which is what `vdpbf16ps` takes:
//!
//! ```text
//! line 2k      lane 0 [col 2k | col 2k+1]  lane 1 [col 2k | col 2k+1] ...  lane 15     16 x 4 bytes
//! line 2k + 1  lane 16                     lane 17                    ...  lane 31
//! ```
//!
//! 4 to 8 bits: a panel is a sequence of *interleaved blocks* (as ggml's repacked `block_q4_Kx8`), each 32 rows of one block of the
//! format. An interleaved block is a header, then for every 32 columns (a *block*):
//!
//! ```text
//! scales       1 or 2 lines, see [`ScaleKind`]
//! high bits    2 lines (one per half) for each bit above the fourth; only 5- and 6-bit formats
//! quants       2 lines for each *step* (four columns) of 8 bits, or for two steps of up to 6 bits
//!
//! a quant line, 8 bits:         lane 0 [q0 q1 q2 q3]  lane 1 [q0 q1 q2 q3] ...  lane 15     16 x 4 bytes
//! a quant line, up to 6 bits:   the same; low nibbles are step s, high nibbles step s + S/2 of a sub-block of S steps
//! ```
//!
//! `vpdpbusd` multiplies a step by the same four columns of an activation row and adds the four products to each lane's sum. A
//! *sub-block* is what has one scale per lane: a whole block, or either half of one (`Q6_K`). The bits above the fourth have one
//! byte for each byte of quants of a sub-block, ordered such that one shift per line brings the bits of the next step to bits 4 and 5:
//! right for the low nibbles, left for the high ones:
//!
//! ```text
//! 5 bits, byte of high bits:    bit 7 .. bit 0 = steps 3 2 1 0 (low nibbles) | 4 5 6 7 (high nibbles)
//! 6 bits, sub-block of 4 steps: bits 7-6, 5-4 = steps 1 0 | bits 3-2, 1-0 = steps 2 3
//! ```
//!
//! Quants are stored unsigned, with the format's zero point added: `vpdpbusd` wants one unsigned operand. What the zero point adds to
//! a sum depends on the activations alone, so a sum starts with its negative. Formats with a minimum per block keep it beside the
//! scale; `min * sum of activations` is subtracted from the total.
//!
//! Sources: GGUF's formats and bitsandbytes' NF4, whose values these are, except that NF4's levels are rounded to whole 112ths of the
//! scale; the interleaving is this crate's own. Leaves out: rows that are no whole interleaved blocks (32, 64 or 256 columns).

use crate::BlockFormat;
use crate::memory::scratch::CacheLine;
use crate::quant::k_quants::SUB_BLOCKS;

/// Rows of half a panel.
pub(crate) const LANES: usize = 16;
/// Columns of a block.
pub(crate) const BLOCK: usize = 32;
/// Columns of a step: bytes that one 32-bit lane of `vpdpbusd` multiplies.
pub(crate) const STEP: usize = 4;
/// Halves of a panel: each activation is fetched once for both.
pub(crate) const HALVES: usize = 2;
/// Rows of a panel.
pub(crate) const PANEL: usize = HALVES * LANES;
/// Bytes of a cache line.
pub(crate) const LINE_BYTES: usize = size_of::<CacheLine>();

/// The layout of a weight's panels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PackedLayout {
    /// bf16, two columns at a time.
    Bf16Pairs,
    Q8_0,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q4K,
    Q5K,
    Q6K,
    Nf4,
    /// `Q4_1` and `Q5_1` with quants of 8 bits ([`PackedLayout::as_int8`]).
    Int8WithMin,
    /// `Q4_K` and `Q5_K` with quants of 8 bits.
    Int8K,
    /// `Q6_K` with quants of 8 bits.
    Int8Q6K,
    /// NF4 with quants of 8 bits.
    Int8Nf4,
}

/// The scales of an interleaved block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ScaleKind {
    /// One f16 per lane and block: `[scale; 32]`, a line.
    PerBlock,
    /// f16 scale and f16 minimum: `[scale; 32]`, `[min; 32]`, two lines.
    PerBlockWithMin,
    /// Header `[f16 scale; 32]`, `[f16 min scale; 32]`; each block has a line `[u8 scale; 32] [u8 min; 32]`.
    SuperBlock,
    /// Header `[f16 scale; 32]`; each block has a line `[i8 scale of columns 0..16; 32] [i8 scale of columns 16..32; 32]`.
    SuperBlockOfHalves,
    /// One f32 per lane and two blocks: `[f32 scale; 16]` of half 0 in the first block's line, of half 1 in the second's.
    PerTwoBlocks,
}

impl PackedLayout {
    /// The layout of a format.
    pub(crate) fn of(format: BlockFormat) -> Self {
        match format {
            BlockFormat::Q8_0 => Self::Q8_0,
            BlockFormat::Q4_0 => Self::Q4_0,
            BlockFormat::Q4_1 => Self::Q4_1,
            BlockFormat::Q5_0 => Self::Q5_0,
            BlockFormat::Q5_1 => Self::Q5_1,
            BlockFormat::Q4K => Self::Q4K,
            BlockFormat::Q5K => Self::Q5K,
            BlockFormat::Q6K => Self::Q6K,
            BlockFormat::Nf4 | BlockFormat::Nf4Double => Self::Nf4,
        }
    }

    /// The layout of the same weight with a byte for each quant.
    pub(crate) const fn as_int8(self) -> Self {
        match self {
            Self::Q4_0 | Self::Q5_0 => Self::Q8_0,
            Self::Q4_1 | Self::Q5_1 => Self::Int8WithMin,
            Self::Q4K | Self::Q5K => Self::Int8K,
            Self::Q6K => Self::Int8Q6K,
            Self::Nf4 => Self::Int8Nf4,
            other => other,
        }
    }

    /// Bits of a quant.
    pub(crate) const fn bits(self) -> usize {
        match self {
            Self::Bf16Pairs => 16,
            Self::Q8_0 | Self::Int8WithMin | Self::Int8K | Self::Int8Q6K | Self::Int8Nf4 => 8,
            Self::Q6K => 6,
            Self::Q5_0 | Self::Q5_1 | Self::Q5K => 5,
            Self::Q4_0 | Self::Q4_1 | Self::Q4K | Self::Nf4 => 4,
        }
    }

    pub(crate) const fn scale_kind(self) -> ScaleKind {
        match self {
            Self::Q4_1 | Self::Q5_1 | Self::Int8WithMin => ScaleKind::PerBlockWithMin,
            Self::Q4K | Self::Q5K | Self::Int8K => ScaleKind::SuperBlock,
            Self::Q6K | Self::Int8Q6K => ScaleKind::SuperBlockOfHalves,
            Self::Nf4 | Self::Int8Nf4 => ScaleKind::PerTwoBlocks,
            Self::Bf16Pairs | Self::Q8_0 | Self::Q4_0 | Self::Q5_0 => ScaleKind::PerBlock,
        }
    }

    /// Whether a minimum is subtracted from each value.
    pub(crate) const fn has_mins(self) -> bool {
        matches!(self.scale_kind(), ScaleKind::PerBlockWithMin | ScaleKind::SuperBlock)
    }

    /// The zero point: what is added to a quant to store it unsigned.
    pub(crate) const fn zero_point(self) -> i32 {
        match self.scale_kind() {
            ScaleKind::PerBlockWithMin | ScaleKind::SuperBlock => 0,
            // NF4's levels are looked up as bytes.
            ScaleKind::PerTwoBlocks => 128,
            ScaleKind::PerBlock | ScaleKind::SuperBlockOfHalves => 1 << (self.bits() - 1),
        }
    }

    /// Columns of an interleaved block.
    pub(crate) const fn columns(self) -> usize {
        match self {
            Self::Bf16Pairs => 2,
            _ => self.blocks() * BLOCK,
        }
    }

    /// Blocks of 32 columns in an interleaved block.
    pub(crate) const fn blocks(self) -> usize {
        match self.scale_kind() {
            ScaleKind::PerBlock | ScaleKind::PerBlockWithMin => 1,
            ScaleKind::PerTwoBlocks => 2,
            ScaleKind::SuperBlock | ScaleKind::SuperBlockOfHalves => SUB_BLOCKS,
        }
    }

    /// Sub-blocks of a block: parts with a scale of their own.
    pub(crate) const fn sub_blocks(self) -> usize {
        if matches!(self.scale_kind(), ScaleKind::SuperBlockOfHalves) { 2 } else { 1 }
    }

    /// Lines of the header.
    pub(crate) const fn header_lines(self) -> usize {
        match self.scale_kind() {
            ScaleKind::SuperBlock => 2,
            ScaleKind::SuperBlockOfHalves => 1,
            ScaleKind::PerBlock | ScaleKind::PerBlockWithMin | ScaleKind::PerTwoBlocks => 0,
        }
    }

    /// Lines of scales of a block.
    pub(crate) const fn scale_lines(self) -> usize {
        if matches!(self.scale_kind(), ScaleKind::PerBlockWithMin) { 2 } else { 1 }
    }

    /// Bits of a quant that are stored apart from its nibble.
    pub(crate) const fn high_bits(self) -> usize {
        match self.bits() {
            bits @ (5 | 6) => bits - 4,
            _ => 0,
        }
    }

    /// Lines of quants of a block, for one half of the lanes.
    pub(crate) const fn quant_lines(self) -> usize {
        let steps = BLOCK / STEP;
        if self.bits() == 8 { steps } else { steps / 2 }
    }

    /// Lines of a block.
    pub(crate) const fn block_lines(self) -> usize {
        self.scale_lines() + HALVES * (self.high_bits() + self.quant_lines())
    }

    /// Lines of an interleaved block.
    pub(crate) const fn lines(self) -> usize {
        match self {
            Self::Bf16Pairs => HALVES,
            _ => self.header_lines() + self.blocks() * self.block_lines(),
        }
    }
}

/// Where a step of up to six bits lies in its block.
#[derive(Clone, Copy)]
pub(crate) struct StepPosition {
    pub(crate) sub_block: usize,
    /// Its line of quants.
    pub(crate) line: usize,
    /// Whether it has the high nibbles of that line.
    pub(crate) is_high_nibble: bool,
    /// The lowest of its high bits in a byte of those.
    pub(crate) shift: usize,
}

impl StepPosition {
    #[inline(always)]
    pub(crate) fn of(layout: PackedLayout, step: usize) -> Self {
        let lines = layout.quant_lines() / layout.sub_blocks();
        let (sub_block, within) = (step / (2 * lines), step % (2 * lines));
        let (is_high_nibble, line) = (within >= lines, within % lines);
        let bits = layout.high_bits();
        let shift = if is_high_nibble { 4 - bits * (line + 1) } else { 4 + bits * line };
        Self { sub_block, line: sub_block * lines + line, is_high_nibble, shift }
    }
}

/// A layout that is known when a loop is compiled.
pub(crate) trait StaticLayout {
    const LAYOUT: PackedLayout;
    /// Lines of quants in a sub-block, for one half of the lanes.
    const LINES: usize = Self::LAYOUT.quant_lines() / Self::LAYOUT.sub_blocks();
    /// Steps in a sub-block.
    const STEPS: usize = BLOCK / STEP / Self::LAYOUT.sub_blocks();
}

/// Evaluates an expression for a layout of quants, in which a name stands for its [`StaticLayout`].
macro_rules! with_layout {
    ($layout:expr, $name:ident => $expression:expr) => {
        $crate::memory::prepacked::layout::with_layout!(
            @each $layout, $name, $expression,
            Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 Q4K Q5K Q6K Nf4 Int8WithMin Int8K Int8Q6K Int8Nf4
        )
    };
    (@each $layout:expr, $name:ident, $expression:expr, $first:ident $($each:ident)*) => {
        match $layout {
            $crate::memory::prepacked::layout::PackedLayout::$first
            | $crate::memory::prepacked::layout::PackedLayout::Bf16Pairs => {
                type $name = $crate::memory::prepacked::layout::static_layouts::$first;
                $expression
            }
            $($crate::memory::prepacked::layout::PackedLayout::$each => {
                type $name = $crate::memory::prepacked::layout::static_layouts::$each;
                $expression
            })*
        }
    };
}
pub(crate) use with_layout;

/// A type for each layout of quants.
pub(crate) mod static_layouts {
    use super::{PackedLayout, StaticLayout};

    macro_rules! static_layouts {
        ($($name:ident)*) => {
            $(pub(crate) struct $name;
            impl StaticLayout for $name {
                const LAYOUT: PackedLayout = PackedLayout::$name;
            })*
        };
    }
    static_layouts!(Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 Q4K Q5K Q6K Nf4 Int8WithMin Int8K Int8Q6K Int8Nf4);
}
