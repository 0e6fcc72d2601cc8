//! Frozen weights of 8 or 4 bits in blocks that share a scale: made from f32, and widened range by range where they meet
//! a product.
//!
//! Sources: GGUF's `Q8_0` and `Q4_0` (ggml `quantize_row_q8_0_ref`, `quantize_row_q4_0_ref`), byte for byte; NF4 (Dettmers
//! et al., 2023) with and without double quantization, as bitsandbytes computes it. Blocks run through the whole
//! tensor, row after row, so rows may have any length; the last block is filled with zeros.

use crate::threads::Parts as _;
use half::f16;

use crate::optimizer::{BLOCK as NESTED, DynamicMap, Sign};
use crate::simd::dispatch;

/// How the elements of a block are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BlockFormat {
    /// 32 elements: an f16 scale, 8 bits each.
    Q8_0,
    /// 32 elements: an f16 scale, 4 bits each, evenly spaced.
    Q4_0,
    /// 64 elements: an f32 scale, 4 bits each, spaced as the quantiles of a normal distribution.
    Nf4,
    /// NF4 whose scales take 8 bits each, in blocks of 256.
    Nf4Double,
}

/// NF4's levels (bitsandbytes `get_4bit_type("nf4")`).
const NF4: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

/// Both levels of every byte, the high half first.
static NF4_PAIRS: [[f32; 2]; 256] = {
    let mut pairs = [[0.0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        pairs[byte] = [NF4[byte >> 4], NF4[byte & 15]];
        byte += 1;
    }
    pairs
};

/// Most elements of any format's block.
const LONGEST: usize = 64;
/// Blocks per task.
const TASK: usize = 1024;

impl BlockFormat {
    /// All formats.
    pub const ALL: [Self; 4] = [Self::Q8_0, Self::Q4_0, Self::Nf4, Self::Nf4Double];

    /// Elements in a block.
    pub fn elements(self) -> usize {
        match self {
            Self::Q8_0 | Self::Q4_0 => 32,
            Self::Nf4 | Self::Nf4Double => 64,
        }
    }

    /// Bytes of a block, without scales that are stored apart.
    fn code_bytes(self) -> usize {
        match self {
            Self::Q8_0 => 34,
            Self::Q4_0 => 18,
            Self::Nf4 | Self::Nf4Double => 32,
        }
    }

    /// Bytes that `len` elements take, scales included.
    pub fn bytes(self, len: usize) -> usize {
        let blocks = len.div_ceil(self.elements());
        let scales = match self {
            Self::Q8_0 | Self::Q4_0 => 0,
            Self::Nf4 => blocks * size_of::<f32>(),
            Self::Nf4Double => blocks + blocks.div_ceil(NESTED) * size_of::<f32>() + size_of::<f32>(),
        };
        blocks * self.code_bytes() + scales
    }

    /// A name for people: `q8_0`, `q4_0`, `nf4`, `nf4 (double quantization)`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Q8_0 => "q8_0",
            Self::Q4_0 => "q4_0",
            Self::Nf4 => "nf4",
            Self::Nf4Double => "nf4 (double quantization)",
        }
    }
}

/// Scales that are stored apart from the elements.
#[derive(Clone, Debug)]
enum Scales {
    /// They are in the blocks.
    Within,
    /// One f32 per block.
    Plain(Vec<f32>),
    /// A code per block, a largest magnitude per 256 of them, and the mean that was taken away first.
    Nested { codes: Vec<u8>, maxima: Vec<f32>, mean: f32 },
}

/// Numbers in blocks.
#[derive(Clone, Debug)]
pub struct Blocks {
    format: BlockFormat,
    len: usize,
    codes: Vec<u8>,
    scales: Scales,
}

impl Blocks {
    /// The numbers of a format that are nearest to `values`, by its rule.
    pub fn quantize(values: &[f32], format: BlockFormat) -> Self {
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
            BlockFormat::Q8_0 | BlockFormat::Q4_0 => Scales::Within,
            BlockFormat::Nf4 => Scales::Plain(maxima),
            BlockFormat::Nf4Double => nested(maxima),
        };
        Self { format, len: values.len(), codes, scales }
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
        BlockView { blocks: self, start: 0, len: self.len }
    }

    #[inline(always)]
    fn scale(&self, block: usize) -> f32 {
        match &self.scales {
            Scales::Within => 1.0,
            Scales::Plain(scales) => scales[block],
            Scales::Nested { codes, maxima, mean } => {
                let map = DynamicMap::of(Sign::Signed).values();
                map[codes[block] as usize] * maxima[block / NESTED] + mean
            }
        }
    }

    /// Widens one block into `out`, which has its length.
    #[inline(always)]
    fn decode(&self, block: usize, out: &mut [f32]) {
        let bytes = &self.codes[block * self.format.code_bytes()..][..self.format.code_bytes()];
        match self.format {
            BlockFormat::Q8_0 => {
                let scale = f16::from_le_bytes([bytes[0], bytes[1]]).to_f32_const();
                for (out, &q) in out.iter_mut().zip(&bytes[2..]) {
                    *out = f32::from(q.cast_signed()) * scale;
                }
            }
            BlockFormat::Q4_0 => {
                let scale = f16::from_le_bytes([bytes[0], bytes[1]]).to_f32_const();
                let (low, high) = out.split_at_mut(16);
                for ((low, high), &q) in low.iter_mut().zip(high).zip(&bytes[2..]) {
                    *low = f32::from((q & 15) as i8 - 8) * scale;
                    *high = f32::from((q >> 4) as i8 - 8) * scale;
                }
            }
            BlockFormat::Nf4 | BlockFormat::Nf4Double => {
                let scale = self.scale(block);
                for (out, &pair) in out.chunks_exact_mut(2).zip(bytes) {
                    let levels = NF4_PAIRS[pair as usize];
                    (out[0], out[1]) = (levels[0] * scale, levels[1] * scale);
                }
            }
        }
    }
}

/// Stores a block, filled up with zeros, and returns its largest magnitude.
fn encode(format: BlockFormat, values: &[f32], codes: &mut [u8]) -> f32 {
    let max = values.iter().fold(0.0f32, |max, x| max.max(x.abs()));
    match format {
        BlockFormat::Q8_0 => {
            let scale = max / 127.0;
            let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
            codes[..2].copy_from_slice(&f16::from_f32(scale).to_le_bytes());
            for (code, x) in codes[2..].iter_mut().zip(values) {
                *code = ((x * inverse).round() as i8).cast_unsigned();
            }
        }
        BlockFormat::Q4_0 => {
            // The first of the largest has the level -8 exactly.
            let largest = values.iter().copied().find(|x| x.abs() == max).unwrap_or(0.0);
            let scale = largest / -8.0;
            let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
            codes[..2].copy_from_slice(&f16::from_f32(scale).to_le_bytes());
            let level = |x: f32| ((x * inverse + 8.5) as u8).min(15);
            let (low, high) = values.split_at(16);
            for ((code, &low), &high) in codes[2..].iter_mut().zip(low).zip(high) {
                *code = level(low) | level(high) << 4;
            }
        }
        BlockFormat::Nf4 | BlockFormat::Nf4Double => {
            let inverse = 1.0 / max.max(1e-38);
            let level = |x: f32| {
                let x = (x * inverse).clamp(-1.0, 1.0);
                NF4.windows(2).filter(|pair| (pair[0] + pair[1]) / 2.0 < x).count() as u8
            };
            for (code, pair) in codes.iter_mut().zip(values.chunks_exact(2)) {
                *code = level(pair[0]) << 4 | level(pair[1]);
            }
        }
    }
    max
}

/// Scales of 8 bits: what remains of them without their mean, by the dynamic map.
fn nested(mut scales: Vec<f32>) -> Scales {
    let mean = scales.iter().map(|&x| f64::from(x)).sum::<f64>() / scales.len().max(1) as f64;
    let mean = mean as f32;
    for scale in &mut scales {
        *scale -= mean;
    }
    let map = DynamicMap::of(Sign::Signed);
    let mut codes = vec![0; scales.len()];
    let parts = codes.chunks_mut(NESTED).zip(scales.chunks(NESTED));
    let maxima = parts.map(|(codes, scales)| map.quantize(scales, codes)).collect();
    Scales::Nested { codes, maxima, mean }
}

/// A range of the elements of [`Blocks`].
#[derive(Clone, Copy, Debug)]
pub struct BlockView<'a> {
    blocks: &'a Blocks,
    start: usize,
    len: usize,
}

impl<'a> BlockView<'a> {
    /// The blocks' bytes, without scales that are stored apart.
    pub(crate) fn codes(self) -> &'a [u8] {
        &self.blocks.codes
    }

    /// Their format.
    pub fn format(self) -> BlockFormat {
        self.blocks.format
    }

    /// The bytes of a range of whole blocks, scales included where they lie within.
    pub(crate) fn bytes(self) -> &'a [u8] {
        let (size, bytes) = (self.blocks.format.elements(), self.blocks.format.code_bytes());
        &self.blocks.codes[self.start / size * bytes..(self.start + self.len) / size * bytes]
    }

    /// Scale and integers of block `index` of a range that begins with a block, in a format that has such.
    pub(crate) fn integers(self, index: usize) -> (f16, [i8; 32]) {
        let size = self.blocks.format.code_bytes();
        let bytes = &self.blocks.codes[(self.start / self.blocks.format.elements() + index) * size..][..size];
        let mut values = [0; 32];
        match self.blocks.format {
            BlockFormat::Q4_0 => {
                for (at, &pair) in bytes[2..].iter().enumerate() {
                    values[at] = (pair & 15).cast_signed() - 8;
                    values[at + 16] = (pair >> 4).cast_signed() - 8;
                }
            }
            _ => {
                for (value, &code) in values.iter_mut().zip(&bytes[2..]) {
                    *value = code.cast_signed();
                }
            }
        }
        (f16::from_le_bytes([bytes[0], bytes[1]]), values)
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

    /// Widens into `out`, which has this length.
    pub fn widen_into(self, out: &mut [f32]) {
        assert_eq!(out.len(), self.len, "room for the elements of a block view");
        dispatch(
            #[inline(always)]
            || {
                let size = self.blocks.format.elements();
                let (mut at, mut out) = (self.start, out);
                while !out.is_empty() {
                    let (block, skipped) = (at / size, at % size);
                    let (own, rest) = out.split_at_mut((size - skipped).min(out.len()));
                    at += own.len();
                    if own.len() == size {
                        self.blocks.decode(block, own);
                    } else {
                        let mut whole = [0.0; LONGEST];
                        self.blocks.decode(block, &mut whole[..size]);
                        own.copy_from_slice(&whole[skipped..][..own.len()]);
                    }
                    out = rest;
                }
            },
        );
    }
}
