//! The tensor: shape, dtype and storage. It computes nothing.
//!
//! Leaves out: strides (rows are contiguous) and devices other than the CPU.

use std::sync::Arc;

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use super::dtype::DType;
use super::mapped_file::MappedFile;
use super::prepacked::{MappedSource, PrepackedWeight};
use super::values::ValuesMut;
use super::view::View;
use crate::quant::{BlockView, Blocks};

/// Why bytes could not become a tensor.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TensorError {
    /// The number of elements does not fill the shape.
    #[error("a tensor of shape {shape:?} holds {expected} elements, but {found} were given")]
    Length {
        /// The shape asked for.
        shape: Vec<usize>,
        /// Elements in that shape.
        expected: usize,
        /// Elements given.
        found: usize,
    },
    /// The byte range exceeds the file.
    #[error("bytes {start}..{end} lie outside the file of {file} bytes")]
    OutOfFile {
        /// First byte.
        start: usize,
        /// One past the last byte.
        end: usize,
        /// Size of the file.
        file: usize,
    },
    /// The format keeps its scales apart from the blocks.
    #[error("blocks of {0} are made in memory and do not lie in a file")]
    Blocks(&'static str),
    /// A row is not a whole number of blocks.
    #[error("rows of {columns} elements are no whole number of {format} blocks")]
    Rows {
        /// Elements of a row.
        columns: usize,
        /// The blocks' format.
        format: &'static str,
    },
    /// The element count of the shape overflows memory.
    #[error("a tensor of shape {shape:?} is larger than the address space")]
    TooLarge {
        /// The shape asked for.
        shape: Vec<usize>,
    },
}

#[derive(Clone, Debug)]
pub(super) enum Storage {
    F32(Vec<f32>),
    Bf16(Vec<bf16>),
    F16(Vec<f16>),
    Blocks(Blocks),
    Packed(PrepackedWeight),
    Mapped { file: Arc<MappedFile>, start: usize, end: usize },
}

/// A row-major, contiguous tensor.
///
/// ```
/// use parlor_kernels::{DType, Tensor};
///
/// let tensor = Tensor::from_f32(&[2, 2], vec![1.0, 2.0, 3.0, 4.0])?;
/// let narrow = tensor.to_dtype(DType::Bf16);
/// assert_eq!((narrow.shape(), narrow.owned_bytes()), (&[2, 2][..], 8));
/// assert_eq!(narrow.rows(1..2)?.to_f32_vec(), [3.0, 4.0]);
/// # Ok::<(), parlor_kernels::TensorError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Tensor {
    pub(super) shape: Vec<usize>,
    pub(super) dtype: DType,
    pub(super) storage: Storage,
}

/// Number of elements of `shape`.
pub(super) fn count(shape: &[usize]) -> Result<usize, TensorError> {
    shape
        .iter()
        .try_fold(1usize, |total, &n| total.checked_mul(n))
        .filter(|total| total.checked_mul(4).is_some_and(|bytes| isize::try_from(bytes).is_ok()))
        .ok_or_else(|| TensorError::TooLarge { shape: shape.to_vec() })
}

impl Tensor {
    /// An f32 tensor that owns `values`.
    ///
    /// # Errors
    /// [`TensorError::Length`] when `values` does not fill `shape`.
    pub fn from_f32(shape: &[usize], values: Vec<f32>) -> Result<Self, TensorError> {
        let expected = count(shape)?;
        if values.len() != expected {
            return Err(TensorError::Length { shape: shape.to_vec(), expected, found: values.len() });
        }
        Ok(Self { shape: shape.to_vec(), dtype: DType::F32, storage: Storage::F32(values) })
    }

    /// A tensor over the range `bytes` of `file`: zero-copy where the range is aligned for `dtype` (safetensors and
    /// GGUF align it), a copy where it is not.
    ///
    /// # Errors
    /// [`TensorError::OutOfFile`], [`TensorError::Length`] when the range does not fill `shape`, or
    /// [`TensorError::Blocks`] for NF4, whose scales are stored apart.
    pub fn mapped(
        file: &Arc<MappedFile>,
        bytes: std::ops::Range<usize>,
        shape: &[usize],
        dtype: DType,
    ) -> Result<Self, TensorError> {
        let (start, end) = (bytes.start, bytes.end);
        let slice =
            file.bytes().get(bytes).ok_or(TensorError::OutOfFile { start, end, file: file.bytes().len() })?;
        let expected = count(shape)?;
        if slice.len() != dtype.bytes(expected) {
            let found = match dtype {
                DType::Block(format) => slice.len() / format.bytes(1) * format.elements(),
                plain => slice.len() / plain.bytes(1),
            };
            return Err(TensorError::Length { shape: shape.to_vec(), expected, found });
        }
        let aligned = |size| slice.as_ptr().align_offset(size) == 0;
        let storage = match dtype {
            DType::Block(format) if !format.has_inline_scales() => {
                return Err(TensorError::Blocks(format.name()));
            }
            DType::F32 if !aligned(4) => Storage::F32(bytemuck::allocation::pod_collect_to_vec(slice)),
            DType::Bf16 if !aligned(2) => Storage::Bf16(bytemuck::allocation::pod_collect_to_vec(slice)),
            DType::F16 if !aligned(2) => Storage::F16(bytemuck::allocation::pod_collect_to_vec(slice)),
            _ => Storage::Mapped { file: Arc::clone(file), start, end },
        };
        Ok(Self { shape: shape.to_vec(), dtype, storage })
    }

    /// Dimensions, slowest first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.view().len()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of heap memory that this tensor owns: zero for one in a mapped file.
    pub fn owned_bytes(&self) -> usize {
        match self.storage {
            Storage::Mapped { .. } => 0,
            _ => self.dtype.bytes(self.len()),
        }
    }

    /// Releases the pages of a tensor in a mapped file until they are read again. Does nothing to other tensors.
    pub fn release(&self) {
        if let Storage::Mapped { file, start, end } = &self.storage {
            file.release(*start..*end);
        }
    }

    /// The elements, by dtype.
    pub fn view(&self) -> View<'_> {
        match &self.storage {
            Storage::F32(values) => View::F32(values),
            Storage::Bf16(values) => View::Bf16(values),
            Storage::F16(values) => View::F16(values),
            Storage::Blocks(values) => View::Block(values.view()),
            Storage::Packed(values) => View::Packed(values.view()),
            // Range and alignment were checked at construction.
            Storage::Mapped { file, start, end } => {
                let bytes = &file.bytes()[*start..*end];
                match self.dtype {
                    DType::F32 => View::F32(bytemuck::cast_slice(bytes)),
                    DType::Bf16 => View::Bf16(bytemuck::cast_slice(bytes)),
                    DType::F16 => View::F16(bytemuck::cast_slice(bytes)),
                    DType::Block(format) => {
                        View::Block(BlockView::from_bytes(format, self.shape.iter().product(), bytes))
                    }
                }
            }
        }
    }

    /// The little-endian bytes of the elements, as safetensors and GGUF store them; without scales that are stored apart.
    pub fn bytes(&self) -> &[u8] {
        match self.view() {
            View::F32(values) => bytemuck::cast_slice(values),
            View::Bf16(values) => bytemuck::cast_slice(values),
            View::F16(values) => bytemuck::cast_slice(values),
            View::Block(values) => values.data(),
            View::Packed(values) => values.bytes(),
        }
    }

    /// The elements, when they are f32.
    pub fn as_f32(&self) -> Option<&[f32]> {
        match self.view() {
            View::F32(values) => Some(values),
            _ => None,
        }
    }

    /// The elements for writing, when they are owned f32.
    pub fn as_f32_mut(&mut self) -> Option<&mut [f32]> {
        match &mut self.storage {
            Storage::F32(values) => Some(values),
            _ => None,
        }
    }

    /// The elements for writing, when they are owned f32 or bf16.
    pub fn values_mut(&mut self) -> Option<ValuesMut<'_>> {
        match &mut self.storage {
            Storage::F32(values) => Some(ValuesMut::F32(values)),
            Storage::Bf16(values) => Some(ValuesMut::Bf16(values)),
            _ => None,
        }
    }

    /// The elements, widened to f32.
    pub fn to_f32_vec(&self) -> Vec<f32> {
        let mut out = vec![0.0; self.len()];
        self.view().widen_into(&mut out);
        out
    }

    /// The same numbers prepacked for products, when they are bf16, or quantized and of a width that is whole interleaved
    /// blocks. The dtype stays, and so do the numbers, except that NF4's levels are rounded. A weight in a mapped file is
    /// packed at its second product.
    pub fn packed(&self) -> Option<Tensor> {
        let columns = *self.shape.last()?;
        let packed = match (&self.storage, self.dtype) {
            (Storage::Mapped { file, start, end }, DType::Bf16 | DType::Block(_)) => {
                let format = if let DType::Block(format) = self.dtype { Some(format) } else { None };
                let (file, bytes) = (Arc::clone(file), *start..*end);
                PrepackedWeight::lazy(MappedSource { file, bytes, format, len: self.len() }, columns)
            }
            _ => self.view().prepack(columns),
        }?;
        Some(Tensor { shape: self.shape.clone(), dtype: self.dtype, storage: Storage::Packed(packed) })
    }

    /// Packs the weight of [`Self::packed`] now, if it still waits for its second product.
    pub fn pack(&self) {
        if let Storage::Packed(packed) = &self.storage {
            packed.storage().all();
        }
    }

    /// The bytes of a row, when rows can be moved one by one: plain elements, or whole blocks with inline scales.
    fn row_bytes(&self) -> Result<usize, TensorError> {
        let columns = self.shape.get(1..).unwrap_or_default().iter().product();
        match (self.dtype, &self.storage) {
            (DType::Block(format), storage) => {
                let movable = format.has_inline_scales() && !matches!(storage, Storage::Packed(_));
                match movable && columns % format.elements() == 0 {
                    true => Ok(format.bytes(columns)),
                    false => Err(TensorError::Rows { columns, format: format.name() }),
                }
            }
            (plain, _) => Ok(plain.bytes(columns)),
        }
    }

    /// The rows `range`: zero-copy for a tensor in a mapped file, a copy for others.
    ///
    /// # Errors
    /// [`TensorError::Rows`] when a row is not a whole number of blocks, [`TensorError::OutOfFile`] when `range` exceeds
    /// the tensor.
    pub fn rows(&self, range: std::ops::Range<usize>) -> Result<Tensor, TensorError> {
        let size = self.row_bytes()?;
        let shape: Vec<usize> =
            std::iter::once(range.len()).chain(self.shape.iter().skip(1).copied()).collect();
        match &self.storage {
            Storage::Mapped { file, start, end } if range.end.saturating_mul(size) <= end - start => {
                let bytes = start + range.start * size..start + range.end * size;
                Self::mapped(file, bytes, &shape, self.dtype)
            }
            _ => self.gather_rows(range),
        }
    }

    /// A copy of the given rows, in the given order, bit for bit.
    ///
    /// # Errors
    /// Those of [`Self::rows`].
    pub fn gather_rows(&self, rows: impl IntoIterator<Item = usize>) -> Result<Tensor, TensorError> {
        let (size, all) = (self.row_bytes()?, self.bytes());
        let (mut bytes, mut count) = (Vec::new(), 0);
        for row in rows {
            let (start, end) = (row * size, (row + 1) * size);
            let row = all.get(start..end).ok_or(TensorError::OutOfFile { start, end, file: all.len() })?;
            bytes.extend_from_slice(row);
            count += 1;
        }
        let shape: Vec<usize> = std::iter::once(count).chain(self.shape.iter().skip(1).copied()).collect();
        let storage = match self.dtype {
            DType::F32 => Storage::F32(bytemuck::allocation::pod_collect_to_vec(&bytes)),
            DType::Bf16 => Storage::Bf16(bytemuck::allocation::pod_collect_to_vec(&bytes)),
            DType::F16 => Storage::F16(bytemuck::allocation::pod_collect_to_vec(&bytes)),
            DType::Block(format) => {
                Storage::Blocks(Blocks::from_bytes(format, shape.iter().product(), bytes))
            }
        };
        Ok(Tensor { shape, dtype: self.dtype, storage })
    }

    /// An owned copy in `dtype`: narrowing rounds to nearest even, and blocks are quantized by the rule of their format.
    /// Blocks of the same format are copied bit for bit.
    ///
    /// # Panics
    /// When `dtype` is a block format other than this tensor's and none of [`QUANTIZABLE`](crate::BlockFormat::QUANTIZABLE): a
    /// caller's mistake.
    pub fn to_dtype(&self, dtype: DType) -> Tensor {
        let storage = match (dtype, self.view()) {
            (DType::Bf16, View::Bf16(values)) => Storage::Bf16(values.to_vec()),
            (DType::F16, View::F16(values)) => Storage::F16(values.to_vec()),
            (DType::F32, _) => Storage::F32(self.to_f32_vec()),
            (DType::Block(format), View::Block(values))
                if format == values.format() && format.has_inline_scales() =>
            {
                Storage::Blocks(Blocks::from_bytes(format, self.len(), values.data().to_vec()))
            }
            (DType::Block(format), _) => Storage::Blocks(match self.view() {
                View::F32(values) => Blocks::quantize(values, format),
                _ => Blocks::quantize(&self.to_f32_vec(), format),
            }),
            (DType::Bf16, _) => {
                let mut out = vec![bf16::ZERO; self.len()];
                out.convert_from_f32_slice(&self.to_f32_vec());
                Storage::Bf16(out)
            }
            (DType::F16, _) => {
                let mut out = vec![f16::ZERO; self.len()];
                out.convert_from_f32_slice(&self.to_f32_vec());
                Storage::F16(out)
            }
        };
        Tensor { shape: self.shape.clone(), dtype, storage }
    }
}
