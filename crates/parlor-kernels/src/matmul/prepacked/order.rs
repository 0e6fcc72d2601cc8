//! What a panel consists of: for each format, how many bits a weight has, what it is scaled by, and in which lines of a record
//! these lie.
//!
//! A record of integers is a *head*, then for every block of 32 columns: lines of scales, lines of high bits, lines of codes.
//! Steps (four columns) of up to 6 bits lie two in a line of codes, in its low and its high half bytes: a *fold* of a block, all
//! of it or half of it where either half has a scale of its own, has its first half of steps in the low ones. What is above
//! four bits lies apart, a byte of bits for each byte of codes in a fold, such that the same shift, made once for every line,
//! brings the bits of the next step to where they belong: those of the low half bytes down, those of the high ones up.

use super::{BLOCK, HALVES, STEP};
use crate::BlockFormat;
use crate::quant::k_quants::SUB_BLOCKS;

/// The order of a weight's records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// bf16, two columns at a time.
    Pairs,
    Q8_0,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q4K,
    Q5K,
    Q6K,
    Nf4,
    /// Levels of eight bits, as others become for many rows, with the scales that they have ([`Order::unpacked`]).
    Bytes1,
    BytesK,
    Bytes6K,
    BytesNf4,
}

/// What the levels of a block are multiplied by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scaling {
    /// A scale: a line of f16.
    One,
    /// A scale and an offset that is taken away: two lines of f16.
    Two,
    /// Scale and offset of 8 bits, a line of both, by a pair of f16 in the two lines of the record's head.
    Groups,
    /// Scales of 8 bits with a sign for either half of the columns, a line of both, by an f16 in the line of the record's head.
    Halves,
    /// A scale for 64 columns: a line of f32 for the first half of the lanes in the first block of two, for the second in the other.
    Wide,
}

impl Order {
    /// That of a format.
    pub(super) fn of(format: BlockFormat) -> Self {
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

    /// That of the same weight with a byte for each level.
    pub(super) const fn unpacked(self) -> Self {
        match self {
            Self::Q4_0 | Self::Q5_0 => Self::Q8_0,
            Self::Q4_1 | Self::Q5_1 => Self::Bytes1,
            Self::Q4K | Self::Q5K => Self::BytesK,
            Self::Q6K => Self::Bytes6K,
            Self::Nf4 => Self::BytesNf4,
            other => other,
        }
    }

    /// Bits of a weight.
    pub(super) const fn bits(self) -> usize {
        match self {
            Self::Pairs => 16,
            Self::Q8_0 | Self::Bytes1 | Self::BytesK | Self::Bytes6K | Self::BytesNf4 => 8,
            Self::Q6K => 6,
            Self::Q5_0 | Self::Q5_1 | Self::Q5K => 5,
            Self::Q4_0 | Self::Q4_1 | Self::Q4K | Self::Nf4 => 4,
        }
    }

    pub(super) const fn scaling(self) -> Scaling {
        match self {
            Self::Q4_1 | Self::Q5_1 | Self::Bytes1 => Scaling::Two,
            Self::Q4K | Self::Q5K | Self::BytesK => Scaling::Groups,
            Self::Q6K | Self::Bytes6K => Scaling::Halves,
            Self::Nf4 | Self::BytesNf4 => Scaling::Wide,
            Self::Pairs | Self::Q8_0 | Self::Q4_0 | Self::Q5_0 => Scaling::One,
        }
    }

    /// Whether levels have no sign, and something that is no level is taken from them.
    pub(super) const fn has_offsets(self) -> bool {
        matches!(self.scaling(), Scaling::Two | Scaling::Groups)
    }

    /// What is added to a weight to make it unsigned, as it is stored.
    pub(super) const fn zero(self) -> i32 {
        match self.scaling() {
            Scaling::Two | Scaling::Groups => 0,
            // Levels that are looked up are bytes.
            Scaling::Wide => 128,
            Scaling::One | Scaling::Halves => 1 << (self.bits() - 1),
        }
    }

    /// Columns of a record.
    pub(super) const fn columns(self) -> usize {
        match self {
            Self::Pairs => 2,
            _ => self.blocks() * BLOCK,
        }
    }

    /// Blocks of 32 columns in a record.
    pub(super) const fn blocks(self) -> usize {
        match self.scaling() {
            Scaling::One | Scaling::Two => 1,
            Scaling::Wide => 2,
            Scaling::Groups | Scaling::Halves => SUB_BLOCKS,
        }
    }

    /// Sums of a block that have a scale of their own.
    pub(super) const fn folds(self) -> usize {
        if matches!(self.scaling(), Scaling::Halves) { 2 } else { 1 }
    }

    /// Lines of a record before those of its blocks.
    pub(super) const fn head(self) -> usize {
        match self.scaling() {
            Scaling::Groups => 2,
            Scaling::Halves => 1,
            Scaling::One | Scaling::Two | Scaling::Wide => 0,
        }
    }

    /// Lines of scales of a block.
    pub(super) const fn scale_lines(self) -> usize {
        if matches!(self.scaling(), Scaling::Two) { 2 } else { 1 }
    }

    /// Bits of a weight that lie apart.
    pub(super) const fn high(self) -> usize {
        match self.bits() {
            bits @ (5 | 6) => bits - 4,
            _ => 0,
        }
    }

    /// Lines of codes of a block, for one half of the lanes.
    pub(super) const fn code_lines(self) -> usize {
        let steps = BLOCK / STEP;
        if self.bits() == 8 { steps } else { steps / 2 }
    }

    /// Lines of a block.
    pub(super) const fn block_lines(self) -> usize {
        self.scale_lines() + HALVES * (self.high() + self.code_lines())
    }

    /// Lines of a record.
    pub(super) const fn lines(self) -> usize {
        match self {
            Self::Pairs => HALVES,
            _ => self.head() + self.blocks() * self.block_lines(),
        }
    }
}

/// An order that is known when a loop is compiled.
pub(super) trait Kind {
    const ORDER: Order;
    /// Lines of codes in a fold, for one half of the lanes.
    const LINES: usize = Self::ORDER.code_lines() / Self::ORDER.folds();
    /// Steps in a fold.
    const STEPS: usize = BLOCK / STEP / Self::ORDER.folds();
}

/// An expression for an order of integers, in which a name stands for its [`Kind`].
macro_rules! by_kind {
    ($order:expr, $kind:ident => $expression:expr) => {
        $crate::matmul::prepacked::order::by_kind!(
            @each $order, $kind, $expression,
            Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 Q4K Q5K Q6K Nf4 Bytes1 BytesK Bytes6K BytesNf4
        )
    };
    (@each $order:expr, $kind:ident, $expression:expr, $first:ident $($name:ident)*) => {
        match $order {
            Order::$first | Order::Pairs => {
                type $kind = kinds::$first;
                $expression
            }
            $(Order::$name => {
                type $kind = kinds::$name;
                $expression
            })*
        }
    };
}
pub(super) use by_kind;

/// A type for each order of integers.
pub(super) mod kinds {
    use super::{Kind, Order};

    macro_rules! kinds {
        ($($name:ident)*) => {
            $(pub(in super::super) struct $name;
            impl Kind for $name {
                const ORDER: Order = Order::$name;
            })*
        };
    }
    kinds!(Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 Q4K Q5K Q6K Nf4 Bytes1 BytesK Bytes6K BytesNf4);
}
