//! Appending rows to a tensor, for a cache of keys and values.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use super::dtype::DType;
use super::tensor::{Storage, Tensor, TensorError, count};
use crate::quant::{BlockFormat, Blocks};

impl Tensor {
    /// A tensor `[0, width]` to [append](Self::append) rows to.
    ///
    /// # Errors
    /// [`TensorError::Blocks`] for a block format other than `Q8_0`, or a row that is not a whole number of its blocks.
    pub fn empty_rows(width: usize, dtype: DType) -> Result<Self, TensorError> {
        let storage = match dtype {
            DType::F32 => Storage::F32(Vec::new()),
            DType::Bf16 => Storage::Bf16(Vec::new()),
            DType::F16 => Storage::F16(Vec::new()),
            DType::Block(format @ BlockFormat::Q8_0) if width.is_multiple_of(format.elements()) => {
                Storage::Blocks(Blocks::quantize(&[], format))
            }
            DType::Block(format) => return Err(TensorError::Blocks(format.name())),
        };
        Ok(Self { shape: vec![0, width], dtype, storage })
    }

    /// Appends rows, rounded to this tensor's dtype. Does nothing to a tensor that [`Self::empty_rows`] did not make.
    ///
    /// # Errors
    /// [`TensorError::Length`] when `values` is not a whole number of rows.
    pub fn append(&mut self, values: &[f32]) -> Result<(), TensorError> {
        let &[rows, width] = self.shape.as_slice() else { return Ok(()) };
        let more = values.len() / width.max(1);
        let shape = vec![rows + more, width];
        if values.len() != more * width {
            let (expected, found) = (count(&shape)?, values.len());
            return Err(TensorError::Length { shape, expected, found });
        }
        let (start, end) = (rows * width, (rows + more) * width);
        match &mut self.storage {
            Storage::F32(own) => own.extend_from_slice(values),
            Storage::Bf16(own) => {
                own.resize(end, bf16::ZERO);
                own[start..].convert_from_f32_slice(values);
            }
            Storage::F16(own) => {
                own.resize(end, f16::ZERO);
                own[start..].convert_from_f32_slice(values);
            }
            Storage::Blocks(own) => own.extend(&Blocks::quantize(values, own.view().format())),
            Storage::Packed(_) | Storage::Mapped { .. } => return Ok(()),
        }
        self.shape = shape;
        Ok(())
    }

    /// Keeps the first `rows` rows and drops the others.
    pub fn truncate(&mut self, rows: usize) {
        let &[now, width] = self.shape.as_slice() else { return };
        let (rows, len) = (rows.min(now), rows.min(now) * width);
        match &mut self.storage {
            Storage::F32(own) => own.truncate(len),
            Storage::Bf16(own) => own.truncate(len),
            Storage::F16(own) => own.truncate(len),
            Storage::Blocks(own) => own.truncate(len),
            Storage::Packed(_) | Storage::Mapped { .. } => return,
        }
        self.shape[0] = rows;
    }
}
