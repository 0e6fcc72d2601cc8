//! What a prepacked weight is made from: bf16 values or quantized blocks, row-major, in memory or in a mapped file.

use std::ops::Range;
use std::sync::Arc;

use half::bf16;

use crate::cpu::simd::widen_bf16;
use crate::memory::mapped_file::MappedFile;
use crate::quant::{BlockFormat, BlockView};

/// The elements of a weight that can be prepacked.
#[derive(Clone, Copy, Debug)]
pub(crate) enum PackSource<'a> {
    /// bf16 elements.
    Bf16(&'a [bf16]),
    /// Quantized elements.
    Blocks(BlockView<'a>),
}

impl<'a> PackSource<'a> {
    /// Number of elements.
    pub(crate) fn len(self) -> usize {
        match self {
            PackSource::Bf16(values) => values.len(),
            PackSource::Blocks(values) => values.len(),
        }
    }

    /// The elements `range`.
    pub(crate) fn slice(self, range: Range<usize>) -> Self {
        match self {
            PackSource::Bf16(values) => PackSource::Bf16(&values[range]),
            PackSource::Blocks(values) => PackSource::Blocks(values.slice(range)),
        }
    }

    /// Widens into `out`, which has the same length.
    pub(crate) fn widen_into(self, out: &mut [f32]) {
        match self {
            PackSource::Bf16(values) => widen_bf16(values, out),
            PackSource::Blocks(values) => values.widen_into(out),
        }
    }
}

/// A weight in a mapped file. `format` is none for bf16.
#[derive(Clone, Debug)]
pub(crate) struct MappedSource {
    pub(crate) file: Arc<MappedFile>,
    /// The bytes of the elements, aligned for them.
    pub(crate) bytes: Range<usize>,
    pub(crate) format: Option<BlockFormat>,
    /// Number of elements.
    pub(crate) len: usize,
}

impl MappedSource {
    /// The elements.
    pub(crate) fn elements(&self) -> PackSource<'_> {
        let bytes = &self.file.bytes()[self.bytes.clone()];
        match self.format {
            None => PackSource::Bf16(bytemuck::cast_slice(bytes)),
            Some(format) => PackSource::Blocks(BlockView::from_bytes(format, self.len, bytes)),
        }
    }

    /// Releases the pages of some elements, whole blocks, until they are read again.
    pub(crate) fn release(&self, elements: Range<usize>) {
        let bytes = |len: usize| self.format.map_or(len * size_of::<bf16>(), |format| format.bytes(len));
        let start = self.bytes.start;
        self.file.release(start + bytes(elements.start)..start + bytes(elements.end));
    }
}
