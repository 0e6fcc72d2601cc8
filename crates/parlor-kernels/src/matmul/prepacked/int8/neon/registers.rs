//! Registers of a line of weights: four of four lanes by four columns.

use std::arch::aarch64::*;

use crate::memory::prepacked::layout::LANES;

/// Lanes of a register.
pub(super) const QUAD: usize = 4;
/// Registers of a line.
pub(super) const QUADS: usize = LANES / QUAD;

/// A line: 16 lanes by four columns.
pub(super) type Weights = [int8x16_t; QUADS];
/// Sums of a row's 16 lanes; `smmla` interleaves those of two rows until they are done.
pub(super) type Integers = [int32x4_t; QUADS];
