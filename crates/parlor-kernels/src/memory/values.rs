//! Buffers of activations: f32, or bf16 where only bf16 products read them.

use std::collections::TryReserveError;
use std::ops::Range;

use half::bf16;

use super::dtype::{Arithmetic, DType};
use super::view::View;
use crate::cpu::simd::round_into;
use crate::parallel::ParallelExt as _;

/// Elements of a task.
const CHUNK: usize = 16 * 1024;

/// A buffer of activations, reused from step to step.
#[derive(Clone, Debug)]
pub enum Values {
    /// f32 elements.
    F32(Vec<f32>),
    /// bf16 elements, rounded to nearest, ties to even.
    Bf16(Vec<bf16>),
}

/// Mutably borrowed elements, f32 or bf16.
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

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reborrows the elements.
    pub fn reborrow(&mut self) -> ValuesMut<'_> {
        match self {
            ValuesMut::F32(values) => ValuesMut::F32(values),
            ValuesMut::Bf16(values) => ValuesMut::Bf16(values),
        }
    }

    /// Reborrows the elements `range`.
    ///
    /// # Panics
    /// When `range` is out of bounds.
    pub fn slice(&mut self, range: Range<usize>) -> ValuesMut<'_> {
        match self {
            ValuesMut::F32(values) => ValuesMut::F32(&mut values[range]),
            ValuesMut::Bf16(values) => ValuesMut::Bf16(&mut values[range]),
        }
    }

    /// Chunks of `len` elements; the last one may be shorter.
    pub(crate) fn chunks(self, len: usize) -> impl Iterator<Item = ValuesMut<'a>> {
        let (f32s, bf16s) = match self {
            ValuesMut::F32(values) => (Some(values), None),
            ValuesMut::Bf16(values) => (None, Some(values)),
        };
        let f32s = f32s.into_iter().flat_map(move |values| values.chunks_mut(len).map(ValuesMut::F32));
        let bf16s = bf16s.into_iter().flat_map(move |values| values.chunks_mut(len).map(ValuesMut::Bf16));
        f32s.chain(bf16s)
    }

    /// The elements, for reading.
    pub fn view(&self) -> View<'_> {
        match self {
            ValuesMut::F32(values) => View::F32(values),
            ValuesMut::Bf16(values) => View::Bf16(values),
        }
    }

    /// Sets all to zero.
    pub fn zero(self) {
        match self {
            ValuesMut::F32(values) => values.chunks_mut(CHUNK).par_for_each(|chunk| chunk.fill(0.0)),
            ValuesMut::Bf16(values) => values.chunks_mut(CHUNK).par_for_each(|chunk| chunk.fill(bf16::ZERO)),
        }
    }

    /// Copies `from`, rounded to nearest.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn set(self, from: &[f32]) {
        assert_eq!(from.len(), self.len(), "lengths of source and destination");
        match self {
            ValuesMut::F32(values) => values.copy_from_slice(from),
            ValuesMut::Bf16(values) => {
                values
                    .chunks_mut(CHUNK)
                    .zip(from.chunks(CHUNK))
                    .par_for_each(|(to, from)| round_into(from, to));
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
    /// Zeros, in the dtype that products in `dtype` read.
    pub fn zeros(dtype: Arithmetic, len: usize) -> Self {
        match dtype {
            Arithmetic::F32 => Values::F32(vec![0.0; len]),
            Arithmetic::Bf16 => Values::Bf16(vec![bf16::ZERO; len]),
        }
    }

    /// The buffer resized to `len` inputs of products in `arithmetic`. Their contents are arbitrary.
    pub fn resized(&mut self, arithmetic: Arithmetic, len: usize) -> ValuesMut<'_> {
        self.convert_for(arithmetic);
        match self {
            Values::F32(values) => values.resize(len, 0.0),
            Values::Bf16(values) => values.resize(len, bf16::ZERO),
        }
        self.view_mut()
    }

    /// Changes to the dtype that products in `arithmetic` read; a change empties the buffer.
    fn convert_for(&mut self, arithmetic: Arithmetic) {
        match (arithmetic, &self) {
            (Arithmetic::F32, Values::F32(_)) | (Arithmetic::Bf16, Values::Bf16(_)) => {}
            (Arithmetic::F32, _) => *self = Values::F32(Vec::new()),
            (Arithmetic::Bf16, _) => *self = Values::Bf16(Vec::new()),
        }
    }

    /// The dtype that products in `arithmetic` read.
    pub fn dtype_of(arithmetic: Arithmetic) -> DType {
        match arithmetic {
            Arithmetic::F32 => DType::F32,
            Arithmetic::Bf16 => DType::Bf16,
        }
    }

    /// Elements that fit without allocation, as inputs of products in `arithmetic`: 0 if the dtype is another.
    pub fn capacity(&self, arithmetic: Arithmetic) -> usize {
        match (arithmetic, self) {
            (Arithmetic::F32, Values::F32(values)) => values.capacity(),
            (Arithmetic::Bf16, Values::Bf16(values)) => values.capacity(),
            _ => 0,
        }
    }

    /// Reserves memory for `len` elements in all.
    ///
    /// # Errors
    /// When the allocation fails. The contents stay, unless the dtype was another.
    pub fn try_reserve(&mut self, arithmetic: Arithmetic, len: usize) -> Result<(), TryReserveError> {
        self.convert_for(arithmetic);
        match self {
            Values::F32(values) => values.try_reserve_exact(len.saturating_sub(values.len())),
            Values::Bf16(values) => values.try_reserve_exact(len.saturating_sub(values.len())),
        }
    }

    /// Replaces the contents by `from`, rounded to bf16.
    pub fn round(&mut self, from: &[f32]) {
        if let ValuesMut::Bf16(values) = self.resized(Arithmetic::Bf16, from.len()) {
            values.chunks_mut(CHUNK).zip(from.chunks(CHUNK)).par_for_each(|(to, from)| round_into(from, to));
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

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
