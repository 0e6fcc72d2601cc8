//! Borrowed elements of any dtype.

use std::borrow::Cow;

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use super::prepacked::{PackSource, PrepackedView, PrepackedWeight};
use crate::quant::BlockView;

/// The elements of a [`Tensor`](super::Tensor), borrowed, by dtype.
#[derive(Clone, Copy, Debug)]
pub enum View<'a> {
    /// f32 elements.
    F32(&'a [f32]),
    /// bf16 elements.
    Bf16(&'a [bf16]),
    /// f16 elements.
    F16(&'a [f16]),
    /// Quantized elements in blocks.
    Block(BlockView<'a>),
    /// Elements of a prepacked weight.
    Packed(PrepackedView<'a>),
}

impl<'a> View<'a> {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            View::F32(values) => values.len(),
            View::Bf16(values) => values.len(),
            View::F16(values) => values.len(),
            View::Block(values) => values.len(),
            View::Packed(values) => values.len(),
        }
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The elements `range`.
    ///
    /// # Panics
    /// When `range` is out of bounds: a caller's mistake, since shapes are checked at construction.
    pub fn slice(self, range: std::ops::Range<usize>) -> View<'a> {
        match self {
            View::F32(values) => View::F32(&values[range]),
            View::Bf16(values) => View::Bf16(&values[range]),
            View::F16(values) => View::F16(&values[range]),
            View::Block(values) => View::Block(values.slice(range)),
            View::Packed(values) => View::Packed(values.slice(range)),
        }
    }

    /// Widens the elements `range` into `out` (same length).
    ///
    /// # Panics
    /// When `range` is out of bounds.
    pub fn widen_range(self, range: std::ops::Range<usize>, out: &mut [f32]) {
        self.slice(range).widen_into(out);
    }

    /// The elements in f32, without a copy where they are f32 already.
    pub fn widened(self) -> Cow<'a, [f32]> {
        match self {
            View::F32(values) => Cow::Borrowed(values),
            other => {
                let mut out = vec![0.0; other.len()];
                other.widen_into(&mut out);
                Cow::Owned(out)
            }
        }
    }

    /// Prepacks the elements as a weight with rows of `columns`; `None` where their dtype or that width cannot be.
    ///
    /// # Panics
    /// When they are no whole number of rows.
    pub fn prepack(self, columns: usize) -> Option<PrepackedWeight> {
        match self {
            View::Bf16(values) => PrepackedWeight::new(PackSource::Bf16(values), columns),
            View::Block(values) => PrepackedWeight::new(PackSource::Blocks(values), columns),
            View::F32(_) | View::F16(_) | View::Packed(_) => None,
        }
    }

    /// Widens into `out` (same length).
    pub fn widen_into(self, out: &mut [f32]) {
        match self {
            View::F32(values) => out.copy_from_slice(values),
            View::Bf16(values) => crate::cpu::simd::widen_bf16(values, out),
            View::F16(values) => values.convert_to_f32_slice(out),
            View::Block(values) => values.widen_into(out),
            View::Packed(values) => values.widen_into(out),
        }
    }
}

impl<'a> From<&'a [f32]> for View<'a> {
    fn from(values: &'a [f32]) -> Self {
        View::F32(values)
    }
}

impl<'a> From<&'a Vec<f32>> for View<'a> {
    fn from(values: &'a Vec<f32>) -> Self {
        View::F32(values)
    }
}

impl<'a> From<PackSource<'a>> for View<'a> {
    fn from(values: PackSource<'a>) -> Self {
        match values {
            PackSource::Bf16(values) => View::Bf16(values),
            PackSource::Blocks(values) => View::Block(values),
        }
    }
}
