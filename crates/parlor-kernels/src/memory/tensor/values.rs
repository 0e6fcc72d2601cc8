//! Activations that one operation writes and others read: f32, or rounded to bf16 where only products of bf16 meet them.

use std::collections::TryReserveError;
use std::ops::Range;

use half::bf16;

use super::{DType, View};
use crate::Arithmetic;
use crate::cpu::simd::round_into;
use crate::parallel::threads::Parts as _;

/// Elements of a task that rounds.
const CHUNK: usize = 16 * 1024;

/// A buffer of activations, reused from step to step.
#[derive(Clone, Debug)]
pub enum Values {
    /// As they were computed.
    F32(Vec<f32>),
    /// To nearest, ties to even.
    Bf16(Vec<bf16>),
}

/// The elements of [`Values`], to be written.
#[derive(Debug)]
pub enum ValuesMut<'a> {
    /// f32 elements.
    F32(&'a mut [f32]),
    /// bf16 elements.
    Bf16(&'a mut [bf16]),
}

impl<'a> ValuesMut<'a> {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            ValuesMut::F32(values) => values.len(),
            ValuesMut::Bf16(values) => values.len(),
        }
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The same elements for a while.
    pub fn reborrow(&mut self) -> ValuesMut<'_> {
        match self {
            ValuesMut::F32(values) => ValuesMut::F32(values),
            ValuesMut::Bf16(values) => ValuesMut::Bf16(values),
        }
    }

    /// The elements `range` for a while.
    ///
    /// # Panics
    /// When `range` is out of bounds.
    pub fn slice(&mut self, range: Range<usize>) -> ValuesMut<'_> {
        match self {
            ValuesMut::F32(values) => ValuesMut::F32(&mut values[range]),
            ValuesMut::Bf16(values) => ValuesMut::Bf16(&mut values[range]),
        }
    }

    /// All elements, so many at a time.
    pub(crate) fn chunks(self, step: usize) -> impl Iterator<Item = ValuesMut<'a>> {
        let (f32s, bf16s) = match self {
            ValuesMut::F32(values) => (Some(values), None),
            ValuesMut::Bf16(values) => (None, Some(values)),
        };
        let f32s = f32s.into_iter().flat_map(move |values| values.chunks_mut(step).map(ValuesMut::F32));
        let bf16s = bf16s.into_iter().flat_map(move |values| values.chunks_mut(step).map(ValuesMut::Bf16));
        f32s.chain(bf16s)
    }

    /// The elements for reading.
    pub fn view(&self) -> View<'_> {
        match self {
            ValuesMut::F32(values) => View::F32(values),
            ValuesMut::Bf16(values) => View::Bf16(values),
        }
    }

    /// Sets all to zero.
    pub fn zero(self) {
        match self {
            ValuesMut::F32(values) => values.chunks_mut(CHUNK).share(|part| part.fill(0.0)),
            ValuesMut::Bf16(values) => values.chunks_mut(CHUNK).share(|part| part.fill(bf16::ZERO)),
        }
    }

    /// Becomes these numbers, rounded to nearest.
    ///
    /// # Panics
    /// When there are not as many.
    pub fn set(self, from: &[f32]) {
        assert_eq!(from.len(), self.len(), "as many numbers as there is room for");
        match self {
            ValuesMut::F32(values) => values.copy_from_slice(from),
            ValuesMut::Bf16(values) => {
                values.chunks_mut(CHUNK).zip(from.chunks(CHUNK)).share(|(to, from)| round_into(from, to));
            }
        }
    }

    /// The bytes of the elements.
    pub fn bytes_mut(self) -> &'a mut [u8] {
        match self {
            ValuesMut::F32(values) => bytemuck::cast_slice_mut(values),
            ValuesMut::Bf16(values) => bytemuck::cast_slice_mut(values),
        }
    }
}

impl<'a> From<&'a mut [f32]> for ValuesMut<'a> {
    fn from(values: &'a mut [f32]) -> Self {
        ValuesMut::F32(values)
    }
}

impl<'a> From<&'a mut Vec<f32>> for ValuesMut<'a> {
    fn from(values: &'a mut Vec<f32>) -> Self {
        ValuesMut::F32(values)
    }
}

impl Default for Values {
    fn default() -> Self {
        Values::F32(Vec::new())
    }
}

impl Values {
    /// Zeros: bf16 where products of bf16 read them, f32 elsewhere.
    pub fn zeros(dtype: Arithmetic, len: usize) -> Self {
        match dtype {
            Arithmetic::F32 => Values::F32(vec![0.0; len]),
            Arithmetic::Bf16 => Values::Bf16(vec![bf16::ZERO; len]),
        }
    }

    /// Room for `len` inputs of products in `arithmetic`; what they hold is whatever it was.
    pub fn room(&mut self, arithmetic: Arithmetic, len: usize) -> ValuesMut<'_> {
        self.become_inputs_of(arithmetic);
        match self {
            Values::F32(values) => values.resize(len, 0.0),
            Values::Bf16(values) => values.resize(len, bf16::ZERO),
        }
        self.view_mut()
    }

    /// Takes the dtype that products in `arithmetic` read; what was there is lost where it is another.
    fn become_inputs_of(&mut self, arithmetic: Arithmetic) {
        match (arithmetic, &self) {
            (Arithmetic::F32, Values::F32(_)) | (Arithmetic::Bf16, Values::Bf16(_)) => {}
            (Arithmetic::F32, _) => *self = Values::F32(Vec::new()),
            (Arithmetic::Bf16, _) => *self = Values::Bf16(Vec::new()),
        }
    }

    /// The dtype of inputs of products in `arithmetic`.
    pub fn dtype_of(arithmetic: Arithmetic) -> DType {
        match arithmetic {
            Arithmetic::F32 => DType::F32,
            Arithmetic::Bf16 => DType::Bf16,
        }
    }

    /// Elements there is memory for, were they inputs of products in `arithmetic`.
    pub fn capacity(&self, arithmetic: Arithmetic) -> usize {
        match (arithmetic, self) {
            (Arithmetic::F32, Values::F32(values)) => values.capacity(),
            (Arithmetic::Bf16, Values::Bf16(values)) => values.capacity(),
            _ => 0,
        }
    }

    /// Asks for memory for `len` elements in all.
    ///
    /// # Errors
    /// When there is none; what was there is intact then, unless it was of another dtype.
    pub fn try_reserve(&mut self, arithmetic: Arithmetic, len: usize) -> Result<(), TryReserveError> {
        self.become_inputs_of(arithmetic);
        match self {
            Values::F32(values) => values.try_reserve_exact(len.saturating_sub(values.len())),
            Values::Bf16(values) => values.try_reserve_exact(len.saturating_sub(values.len())),
        }
    }

    /// Becomes these numbers as bf16.
    pub fn round(&mut self, from: &[f32]) {
        if let ValuesMut::Bf16(values) = self.room(Arithmetic::Bf16, from.len()) {
            values.chunks_mut(CHUNK).zip(from.chunks(CHUNK)).share(|(to, from)| round_into(from, to));
        }
    }

    /// The elements, for reading.
    pub fn view(&self) -> View<'_> {
        match self {
            Values::F32(values) => View::F32(values),
            Values::Bf16(values) => View::Bf16(values),
        }
    }

    /// The elements, for writing.
    pub fn view_mut(&mut self) -> ValuesMut<'_> {
        match self {
            Values::F32(values) => ValuesMut::F32(values),
            Values::Bf16(values) => ValuesMut::Bf16(values),
        }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.view().len()
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
