//! Numbers in blocks: quantized from f32 or as they lie in a file, and dequantized range by range.
//!
//! Blocks run through the whole tensor, row after row, so rows may have any length; the last block is filled with
//! zeros.

use super::format::{BlockFormat, MAX_BLOCK};
use super::nf4::Nf4Scales;
use super::words::QuantWords;
use super::{k_quants, legacy, nf4};
use crate::cpu::simd::dispatch;
use crate::parallel::ParallelExt as _;

/// Blocks that one task quantizes.
const BLOCKS_PER_TASK: usize = 1024;

/// Owned numbers in blocks.
///
/// ```
/// use parlor_kernels::{BlockFormat, Blocks};
///
/// let values: Vec<f32> = (0..64).map(|i| i as f32 - 32.0).collect();
/// let blocks = Blocks::quantize(&values, BlockFormat::Q8_0);
/// assert_eq!(blocks.data().len(), BlockFormat::Q8_0.bytes(values.len()));
///
/// let mut out = vec![0.0; values.len()];
/// blocks.view().widen_into(&mut out);
/// // Half a step of a 127th of the largest magnitude, and the rounding of the scale to f16.
/// let bound = 32.0 * (0.5 / 127.0 + 1.0 / 2048.0);
/// assert!(values.iter().zip(&out).all(|(x, out)| (x - out).abs() <= bound));
/// ```
#[derive(Clone, Debug)]
pub struct Blocks {
    format: BlockFormat,
    len: usize,
    /// The blocks, one after the other.
    data: Vec<u8>,
    /// The scales of formats that keep them apart from the quants.
    scales: Option<Nf4Scales>,
}

impl Blocks {
    /// Quantizes `values` by the rule of `format`.
    ///
    /// # Panics
    /// When the format is none of [`BlockFormat::QUANTIZABLE`]: a caller's mistake.
    pub fn quantize(values: &[f32], format: BlockFormat) -> Self {
        assert!(BlockFormat::QUANTIZABLE.contains(&format), "{} is only read", format.name());
        let (size, block_bytes) = (format.elements(), format.block_bytes());
        let blocks = values.len().div_ceil(size);
        let mut data = vec![0u8; blocks * block_bytes];
        let mut absmax = vec![0.0f32; blocks];
        data.chunks_mut(BLOCKS_PER_TASK * block_bytes)
            .zip(values.chunks(BLOCKS_PER_TASK * size))
            .zip(absmax.chunks_mut(BLOCKS_PER_TASK))
            .par_for_each(|((data, values), absmax)| {
                let blocks = data.chunks_exact_mut(block_bytes).zip(values.chunks(size)).zip(absmax);
                for ((bytes, values), max) in blocks {
                    let mut block = [0.0; MAX_BLOCK];
                    block[..values.len()].copy_from_slice(values);
                    *max = quantize_block(format, &block[..size], bytes);
                }
            });
        let scales = match format {
            BlockFormat::Nf4 => Some(Nf4Scales::Plain(absmax)),
            BlockFormat::Nf4Double => Some(Nf4Scales::double(absmax)),
            _ => None,
        };
        Self { format, len: values.len(), data, scales }
    }

    /// The blocks of `len` elements, as `data` contains them. The format has
    /// [inline scales](BlockFormat::has_inline_scales).
    pub(crate) fn from_bytes(format: BlockFormat, len: usize, data: Vec<u8>) -> Self {
        assert!(format.has_inline_scales() && data.len() == format.bytes(len), "bytes of {len} elements");
        Self { format, len, data, scales: None }
    }

    /// The format.
    pub fn format(&self) -> BlockFormat {
        self.format
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bytes of all blocks, without scales that are stored apart.
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// Appends the blocks of `more`. Both are of one format with inline scales and end at a block border.
    pub(crate) fn extend(&mut self, more: &Self) {
        self.data.extend_from_slice(&more.data);
        self.len += more.len;
    }

    /// Drops the elements from `len` on, which is a block border.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.len = len.min(self.len);
        self.data.truncate(self.len / self.format.elements() * self.format.block_bytes());
    }

    /// All elements.
    pub fn view(&self) -> BlockView<'_> {
        BlockView {
            format: self.format,
            data: &self.data,
            scales: self.scales.as_ref(),
            start: 0,
            len: self.len,
        }
    }
}

/// The 32 quants of sub-block `sub_block` of the block `bytes`: unsigned, except those of `Q8_0`.
#[inline(always)]
pub(crate) fn unpack_quants(format: BlockFormat, bytes: &[u8], sub_block: usize) -> QuantWords {
    match format {
        BlockFormat::Q4K | BlockFormat::Q5K | BlockFormat::Q6K => {
            k_quants::unpack_quants(format, bytes, sub_block)
        }
        BlockFormat::Nf4 | BlockFormat::Nf4Double => nf4::unpack_quants(bytes, sub_block),
        _ => legacy::unpack_quants(format, bytes),
    }
}

/// Quantizes one whole block and returns its largest magnitude.
fn quantize_block(format: BlockFormat, values: &[f32], bytes: &mut [u8]) -> f32 {
    let max = values.iter().fold(0.0f32, |max, x| max.max(x.abs()));
    match format {
        BlockFormat::Q8_0 => legacy::quantize_q8_0(values, max, bytes),
        BlockFormat::Q4_0 => legacy::quantize_q4_0(values, max, bytes),
        _ => nf4::quantize(values, max, bytes),
    }
    max
}

/// A range of elements in blocks, which lie in memory or in a mapped file.
#[derive(Clone, Copy, Debug)]
pub struct BlockView<'a> {
    format: BlockFormat,
    /// All blocks of the tensor.
    data: &'a [u8],
    scales: Option<&'a Nf4Scales>,
    /// The range, in elements.
    start: usize,
    len: usize,
}

impl<'a> BlockView<'a> {
    /// The blocks of `len` elements, as `data` contains them. The format has
    /// [inline scales](BlockFormat::has_inline_scales).
    pub(crate) fn from_bytes(format: BlockFormat, len: usize, data: &'a [u8]) -> Self {
        assert!(format.has_inline_scales() && data.len() == format.bytes(len), "bytes of {len} elements");
        Self { format, data, scales: None, start: 0, len }
    }

    /// The bytes of all blocks of the tensor, whatever the range, without scales that are stored apart.
    pub(crate) fn data(self) -> &'a [u8] {
        self.data
    }

    /// The format.
    pub fn format(self) -> BlockFormat {
        self.format
    }

    /// The bytes of block `index` of the tensor.
    #[inline(always)]
    fn block(self, index: usize) -> &'a [u8] {
        let size = self.format.block_bytes();
        &self.data[index * size..][..size]
    }

    /// The bytes of the range, which begins and ends at block borders, without scales that are stored apart.
    pub(crate) fn bytes(self) -> &'a [u8] {
        let (size, bytes) = (self.format.elements(), self.format.block_bytes());
        &self.data[self.start / size * bytes..(self.start + self.len) / size * bytes]
    }

    /// The scale of block `index` of the range, which begins at a block border; 1 for formats with inline scales.
    pub(crate) fn scale(self, index: usize) -> f32 {
        self.scales.map_or(1.0, |scales| scales.of(self.start / self.format.elements() + index))
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The elements `range`, which may begin and end within blocks.
    ///
    /// # Panics
    /// When `range` is out of bounds.
    pub fn slice(self, range: std::ops::Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= self.len, "elements {range:?} of {}", self.len);
        Self { start: self.start + range.start, len: range.len(), ..self }
    }

    /// Dequantizes block `index` of the tensor into `out`, which has the length of a block.
    #[inline(always)]
    fn dequantize(self, index: usize, out: &mut [f32]) {
        let bytes = self.block(index);
        match self.format {
            BlockFormat::Q4K | BlockFormat::Q5K | BlockFormat::Q6K => {
                k_quants::dequantize(self.format, bytes, out)
            }
            BlockFormat::Nf4 | BlockFormat::Nf4Double => {
                nf4::dequantize(self.scales.map_or(1.0, |scales| scales.of(index)), bytes, out);
            }
            // Constants, so that each format has a loop compiled for it.
            BlockFormat::Q8_0 => legacy::dequantize(BlockFormat::Q8_0, bytes, out),
            BlockFormat::Q4_0 => legacy::dequantize(BlockFormat::Q4_0, bytes, out),
            other => legacy::dequantize(other, bytes, out),
        }
    }

    /// Dequantizes into `out`.
    ///
    /// # Panics
    /// When `out` has another length.
    pub fn widen_into(self, out: &mut [f32]) {
        assert_eq!(out.len(), self.len, "length of the output of a block view");
        dispatch(
            #[inline(always)]
            || {
                let size = self.format.elements();
                let (mut at, mut out) = (self.start, out);
                while !out.is_empty() {
                    let (block, skipped) = (at / size, at % size);
                    let (own, rest) = out.split_at_mut((size - skipped).min(out.len()));
                    at += own.len();
                    if own.len() == size {
                        self.dequantize(block, own);
                    } else {
                        let mut whole = [0.0; MAX_BLOCK];
                        self.dequantize(block, &mut whole[..size]);
                        own.copy_from_slice(&whole[skipped..][..own.len()]);
                    }
                    out = rest;
                }
            },
        );
    }
}
