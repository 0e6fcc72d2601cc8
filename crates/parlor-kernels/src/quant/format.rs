//! The block formats: their names, and the sizes of a block and of a whole tensor.

use super::dynamic_map::DYNAMIC_MAP_BLOCK;

/// Elements of a block of the legacy formats.
pub(super) const LEGACY_BLOCK: usize = 32;
/// Elements of a block of the K-quants (ggml's `QK_K`).
pub(super) const K_BLOCK: usize = 256;
/// Elements of a block of NF4.
pub(super) const NF4_BLOCK: usize = 64;
/// Elements of the longest block of any format.
pub(super) const MAX_BLOCK: usize = K_BLOCK;

/// How the elements of a block are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BlockFormat {
    /// 32 elements: an f16 scale, 8-bit quants.
    Q8_0,
    /// 32 elements: an f16 scale, 4-bit quants with a zero point of 8.
    Q4_0,
    /// 32 elements: an f16 scale, an f16 minimum, 4-bit quants.
    Q4_1,
    /// 32 elements: an f16 scale, 5-bit quants with a zero point of 16.
    Q5_0,
    /// 32 elements: an f16 scale, an f16 minimum, 5-bit quants.
    Q5_1,
    /// 256 elements: 4-bit quants in sub-blocks of 32, each with a 6-bit scale and a 6-bit minimum.
    Q4K,
    /// 256 elements: 5-bit quants in sub-blocks of 32, each with a 6-bit scale and a 6-bit minimum.
    Q5K,
    /// 256 elements: 6-bit quants with a zero point of 32 in sub-blocks of 16, each with an 8-bit scale.
    Q6K,
    /// 64 elements: an f32 scale, 4-bit indices into a codebook of quantiles of a normal distribution.
    Nf4,
    /// NF4 with double quantization: scales of 8 bits in blocks of 256.
    Nf4Double,
}

impl BlockFormat {
    /// The formats that [`Blocks::quantize`](super::Blocks::quantize) writes. The others are only read.
    pub const QUANTIZABLE: [Self; 4] = [Self::Q8_0, Self::Q4_0, Self::Nf4, Self::Nf4Double];

    /// Elements in a block.
    pub fn elements(self) -> usize {
        match self {
            Self::Q8_0 | Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 => LEGACY_BLOCK,
            Self::Q4K | Self::Q5K | Self::Q6K => K_BLOCK,
            Self::Nf4 | Self::Nf4Double => NF4_BLOCK,
        }
    }

    /// Bytes of a block, without scales that are stored apart.
    pub(crate) fn block_bytes(self) -> usize {
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

    /// Whether a block contains its scale, so that blocks can be moved one by one and mapped from a file. NF4 keeps
    /// its scales in an array apart from the quants.
    pub fn has_inline_scales(self) -> bool {
        !matches!(self, Self::Nf4 | Self::Nf4Double)
    }

    /// Bytes that `len` elements take, scales included.
    pub fn bytes(self, len: usize) -> usize {
        let blocks = len.div_ceil(self.elements());
        let scales = match self {
            Self::Nf4 => blocks * size_of::<f32>(),
            // A byte per scale, a maximum per block of scales, and the mean of all scales.
            Self::Nf4Double => {
                blocks + blocks.div_ceil(DYNAMIC_MAP_BLOCK) * size_of::<f32>() + size_of::<f32>()
            }
            _ => 0,
        };
        blocks * self.block_bytes() + scales
    }

    /// Display name: `q8_0`, `q4_k`, `nf4`, `nf4 (double quantization)`.
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
