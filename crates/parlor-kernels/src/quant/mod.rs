//! Frozen weights of few bits in blocks that share a scale: made from f32, or as they lie in a file, and widened range by
//! range where they meet a product.
//!
//! The families of formats are in `blocks/`. Blocks run through the whole tensor, row after row, so rows may have any
//! length; the last block is filled with zeros.

pub(crate) mod k_quants;
pub(crate) mod legacy;
pub(crate) mod nf4;

use crate::parallel::threads::Parts as _;

use crate::cpu::simd::dispatch;
use nf4::Scales;

/// How the elements of a block are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BlockFormat {
    /// 32 elements: an f16 scale, 8 bits each.
    Q8_0,
    /// 32 elements: an f16 scale, 4 bits each, evenly spaced around zero.
    Q4_0,
    /// 32 elements: an f16 scale and an f16 smallest value, 4 bits each.
    Q4_1,
    /// 32 elements: an f16 scale, 5 bits each, evenly spaced around zero.
    Q5_0,
    /// 32 elements: an f16 scale and an f16 smallest value, 5 bits each.
    Q5_1,
    /// 256 elements of 4 bits, in groups of 32 with a scale and an offset of 6 bits.
    Q4K,
    /// 256 elements of 5 bits, in groups of 32 with a scale and an offset of 6 bits.
    Q5K,
    /// 256 elements of 6 bits, in groups of 16 with a scale of 8 bits.
    Q6K,
    /// 64 elements: an f32 scale, 4 bits each, spaced as the quantiles of a normal distribution.
    Nf4,
    /// NF4 whose scales take 8 bits each, in blocks of 256.
    Nf4Double,
}

/// Most elements of any format's block.
const LONGEST: usize = k_quants::ELEMENTS;
/// Blocks per task.
const TASK: usize = 1024;

impl BlockFormat {
    /// The formats that can be made from other numbers. Those that are missing are only read.
    pub const MADE: [Self; 4] = [Self::Q8_0, Self::Q4_0, Self::Nf4, Self::Nf4Double];

    /// Elements in a block.
    pub fn elements(self) -> usize {
        match self {
            Self::Q8_0 | Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 => legacy::ELEMENTS,
            Self::Q4K | Self::Q5K | Self::Q6K => k_quants::ELEMENTS,
            Self::Nf4 | Self::Nf4Double => nf4::ELEMENTS,
        }
    }

    /// Bytes of a block, without scales that are stored apart.
    pub(crate) fn code_bytes(self) -> usize {
        match self {
            Self::Q8_0 => 34,
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q4K => 144,
            Self::Q5K => 176,
            Self::Q6K => 210,
            Self::Nf4 | Self::Nf4Double => 32,
        }
    }

    /// Whether a block holds all that its elements need, so that blocks can be moved one by one and lie in a file.
    pub fn is_whole(self) -> bool {
        !matches!(self, Self::Nf4 | Self::Nf4Double)
    }

    /// Bytes that `len` elements take, scales included.
    pub fn bytes(self, len: usize) -> usize {
        let blocks = len.div_ceil(self.elements());
        let scales = match self {
            Self::Nf4 => nf4::plain_scale_bytes(blocks),
            Self::Nf4Double => nf4::nested_scale_bytes(blocks),
            _ => 0,
        };
        blocks * self.code_bytes() + scales
    }

    /// A name for people: `q8_0`, `q4_k`, `nf4`, `nf4 (double quantization)`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Q8_0 => "q8_0",
            Self::Q4_0 => "q4_0",
            Self::Q4_1 => "q4_1",
            Self::Q5_0 => "q5_0",
            Self::Q5_1 => "q5_1",
            Self::Q4K => "q4_k",
            Self::Q5K => "q5_k",
            Self::Q6K => "q6_k",
            Self::Nf4 => "nf4",
            Self::Nf4Double => "nf4 (double quantization)",
        }
    }
}

/// Numbers in blocks.
#[derive(Clone, Debug)]
pub struct Blocks {
    format: BlockFormat,
    len: usize,
    codes: Vec<u8>,
    /// Scales that are stored apart from the elements.
    scales: Option<Scales>,
}

impl Blocks {
    /// The numbers of a format that are nearest to `values`, by its rule.
    ///
    /// # Panics
    /// When the format is none of [`BlockFormat::MADE`]: a caller's mistake.
    pub fn quantize(values: &[f32], format: BlockFormat) -> Self {
        assert!(BlockFormat::MADE.contains(&format), "{} is only read", format.name());
        let size = format.elements();
        let blocks = values.len().div_ceil(size);
        let mut codes = vec![0u8; blocks * format.code_bytes()];
        let mut maxima = vec![0.0f32; blocks];
        codes
            .chunks_mut(TASK * format.code_bytes())
            .zip(values.chunks(TASK * size))
            .zip(maxima.chunks_mut(TASK))
            .share(|((codes, values), maxima)| {
                let parts = codes.chunks_exact_mut(format.code_bytes()).zip(values.chunks(size)).zip(maxima);
                for ((codes, values), max) in parts {
                    let mut block = [0.0; LONGEST];
                    block[..values.len()].copy_from_slice(values);
                    *max = encode(format, &block[..size], codes);
                }
            });
        let scales = match format {
            BlockFormat::Nf4 => Some(Scales::Plain(maxima)),
            BlockFormat::Nf4Double => Some(Scales::nested(maxima)),
            _ => None,
        };
        Self { format, len: values.len(), codes, scales }
    }

    /// Blocks of a format [that are whole](BlockFormat::is_whole), as they lie in `codes`: those of `len` elements.
    pub(crate) fn from_codes(format: BlockFormat, len: usize, codes: Vec<u8>) -> Self {
        assert!(format.is_whole() && codes.len() == format.bytes(len), "bytes of {len} elements");
        Self { format, len, codes, scales: None }
    }

    /// The format.
    pub fn format(&self) -> BlockFormat {
        self.format
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The stored blocks, without scales that are stored apart.
    pub fn codes(&self) -> &[u8] {
        &self.codes
    }

    /// Adds the elements of `more`, which is of the same format, with scales within; both are whole blocks.
    pub(crate) fn extend(&mut self, more: &Self) {
        self.codes.extend_from_slice(&more.codes);
        self.len += more.len;
    }

    /// Forgets the elements from the `len`-th on, which begins a block.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.len = len.min(self.len);
        self.codes.truncate(self.len / self.format.elements() * self.format.code_bytes());
    }

    /// All elements.
    pub fn view(&self) -> BlockView<'_> {
        BlockView {
            format: self.format,
            codes: &self.codes,
            scales: self.scales.as_ref(),
            start: 0,
            len: self.len,
        }
    }
}

/// The levels of 32 elements as they are stored, four to a word, the first in its lowest byte.
pub(crate) type Words = [u32; 8];

/// Those of the `group`-th 32 of a block, `bytes`.
#[inline(always)]
pub(crate) fn words(format: BlockFormat, bytes: &[u8], group: usize) -> Words {
    match format {
        BlockFormat::Q4K | BlockFormat::Q5K | BlockFormat::Q6K => k_quants::words(format, bytes, group),
        BlockFormat::Nf4 | BlockFormat::Nf4Double => nf4::words(bytes, group),
        _ => legacy::words(format, bytes),
    }
}

/// The words that lie in `bytes` from `from` on.
#[inline(always)]
fn words_at<const N: usize>(bytes: &[u8], from: usize) -> [u32; N] {
    let mut words = [0; N];
    for (word, four) in words.iter_mut().zip(bytes[from..from + 4 * N].chunks_exact(4)) {
        *word = u32::from_le_bytes([four[0], four[1], four[2], four[3]]);
    }
    words
}

/// One by one.
#[inline(always)]
fn bytes_of(words: Words) -> [u8; 32] {
    bytemuck::cast(words.map(u32::to_le))
}

/// Stores a block, filled up with zeros, and returns its largest magnitude.
fn encode(format: BlockFormat, values: &[f32], codes: &mut [u8]) -> f32 {
    let max = values.iter().fold(0.0f32, |max, x| max.max(x.abs()));
    match format {
        BlockFormat::Q8_0 => legacy::encode_q8_0(values, max, codes),
        BlockFormat::Q4_0 => legacy::encode_q4_0(values, max, codes),
        _ => nf4::encode(values, max, codes),
    }
    max
}

/// A range of elements in blocks, which lie in memory or in a mapped file.
#[derive(Clone, Copy, Debug)]
pub struct BlockView<'a> {
    format: BlockFormat,
    codes: &'a [u8],
    scales: Option<&'a Scales>,
    start: usize,
    len: usize,
}

impl<'a> BlockView<'a> {
    /// The blocks of `len` elements, of a format [that is whole](BlockFormat::is_whole), as they lie in `codes`.
    pub(crate) fn over(format: BlockFormat, len: usize, codes: &'a [u8]) -> Self {
        assert!(format.is_whole() && codes.len() == format.bytes(len), "bytes of {len} elements");
        Self { format, codes, scales: None, start: 0, len }
    }

    /// The blocks' bytes, without scales that are stored apart.
    pub(crate) fn codes(self) -> &'a [u8] {
        self.codes
    }

    /// Their format.
    pub fn format(self) -> BlockFormat {
        self.format
    }

    /// The bytes of one block of all that there are.
    #[inline(always)]
    fn block(self, index: usize) -> &'a [u8] {
        let size = self.format.code_bytes();
        &self.codes[index * size..][..size]
    }

    /// The bytes of a range of whole blocks, scales included where they lie within.
    pub(crate) fn bytes(self) -> &'a [u8] {
        let (size, bytes) = (self.format.elements(), self.format.code_bytes());
        &self.codes[self.start / size * bytes..(self.start + self.len) / size * bytes]
    }

    /// The scale of block `index` of a range that begins with one, where it is stored apart.
    pub(crate) fn scale(self, index: usize) -> f32 {
        self.scales.map_or(1.0, |scales| scales.of(self.start / self.format.elements() + index))
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no element.
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

    /// Widens one block into `out`, which has its length.
    #[inline(always)]
    fn decode(self, index: usize, out: &mut [f32]) {
        let bytes = self.block(index);
        match self.format {
            BlockFormat::Q4K | BlockFormat::Q5K | BlockFormat::Q6K => {
                k_quants::decode(self.format, bytes, out)
            }
            BlockFormat::Nf4 | BlockFormat::Nf4Double => {
                nf4::decode(self.scales.map_or(1.0, |scales| scales.of(index)), bytes, out);
            }
            // Named, so that each has a loop of its own.
            BlockFormat::Q8_0 => legacy::decode(BlockFormat::Q8_0, bytes, out),
            BlockFormat::Q4_0 => legacy::decode(BlockFormat::Q4_0, bytes, out),
            other => legacy::decode(other, bytes, out),
        }
    }

    /// Widens into `out`, which has this length.
    pub fn widen_into(self, out: &mut [f32]) {
        assert_eq!(out.len(), self.len, "room for the elements of a block view");
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
                        self.decode(block, own);
                    } else {
                        let mut whole = [0.0; LONGEST];
                        self.decode(block, &mut whole[..size]);
                        own.copy_from_slice(&whole[skipped..][..own.len()]);
                    }
                    out = rest;
                }
            },
        );
    }
}
