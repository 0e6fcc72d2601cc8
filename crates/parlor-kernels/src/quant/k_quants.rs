//! GGUF's K-quants: blocks of 256 elements in sub-blocks whose scales are quantized too: `Q4_K`, `Q5_K`, `Q6_K`.
//!
//! ```text
//! byte    0   2      4            16         48          144         176  192          208 210
//! Q4_K    | d | dmin | scales[12] | qs[128]              |                                       x = d sc q - dmin m
//! Q5_K    | d | dmin | scales[12] | qh[32]   | qs[128]               |                           x = d sc q - dmin m
//! byte    0                            128                192           208 210
//! Q6_K    | ql[128]                    | qh[64]           | scales[16]  | d |                    x = d sc (q - 32)
//!
//! d, dmin  scales of the sub-blocks' scales and minima, f16
//!
//! Q4_K, Q5_K: sub-block g of 32 elements, 0 <= g < 8
//!   qs      byte 32 (g / 2) + i: low four bits of quant i, in the low nibble for even g, the high one for odd g
//!   qh      byte i: bit g is the fifth bit of quant i of sub-block g
//!   scales  sc and m of six bits each, 0 <= j < 4:
//!           byte j      bits 0-5 sc[j]                 bits 6-7 high bits of sc[j + 4]
//!           byte j + 4  bits 0-5 m[j]                  bits 6-7 high bits of m[j + 4]
//!           byte j + 8  bits 0-3 low bits of sc[j + 4] bits 4-7 low bits of m[j + 4]
//!
//! Q6_K: half h of 128 elements, quarter r of 32 within it; a scale (int8) per 16 elements
//!   ql      byte 64 h + 32 (r % 2) + i: low four bits of quant i, in the low nibble for r < 2, else the high one
//!   qh      byte 32 h + i: bits 2 r and 2 r + 1 are its bits 4 and 5
//! ```
//!
//! Source: ggml `block_q4_K`, `block_q5_K`, `block_q6_K` and their `dequantize_row_*`, bit for bit: the product is
//! rounded before the minimum is subtracted. Leaves out: quantizing to them, and the formats of 2 and 3 bits.

use half::f16;

use super::format::{BlockFormat, K_BLOCK};
use super::words::{QuantWords, quant_bytes, read_f16, read_words};

/// Elements of a sub-block of `Q4_K` and `Q5_K`; `Q6_K` has two scales for as many.
pub(crate) const SUB_BLOCK: usize = 32;
/// Sub-blocks of a block.
pub(crate) const SUB_BLOCKS: usize = K_BLOCK / SUB_BLOCK;

/// The scales and minima of a block of `Q4_K` or `Q5_K`.
pub(crate) struct ScalesAndMins {
    /// `d` and `dmin`, which multiply the scales and the minima.
    pub(crate) super_scales: [f16; 2],
    /// Of each sub-block.
    pub(crate) scales: [u8; SUB_BLOCKS],
    /// Of each sub-block.
    pub(crate) mins: [u8; SUB_BLOCKS],
}

impl ScalesAndMins {
    #[inline(always)]
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let (mut scales, mut mins) = ([0; SUB_BLOCKS], [0; SUB_BLOCKS]);
        for (sub_block, (scale, min)) in scales.iter_mut().zip(&mut mins).enumerate() {
            (*scale, *min) = scale_and_min(&bytes[4..16], sub_block);
        }
        Self { super_scales: [read_f16(bytes, 0), read_f16(bytes, 2)], scales, mins }
    }
}

/// Scale and minimum of sub-block `index`, from the 12 bytes `scales`.
#[inline(always)]
fn scale_and_min(bytes: &[u8], index: usize) -> (u8, u8) {
    if index < 4 {
        (bytes[index] & 63, bytes[index + 4] & 63)
    } else {
        let low = bytes[index + 4];
        (low & 15 | bytes[index - 4] >> 6 << 4, low >> 4 | bytes[index] >> 6 << 4)
    }
}

/// `d` of a block of `Q6_K`, and its 16 scales (int8), one per 16 elements.
#[inline(always)]
pub(crate) fn q6_k_scales(bytes: &[u8]) -> (f16, &[u8]) {
    (read_f16(bytes, 208), &bytes[192..208])
}

/// The 32 quants of sub-block `sub_block`, unsigned (the zero point of `Q6_K` is not subtracted).
#[inline(always)]
pub(super) fn unpack_quants(format: BlockFormat, bytes: &[u8], sub_block: usize) -> QuantWords {
    let (half, quarter) = (sub_block / 4, sub_block % 4);
    match format {
        BlockFormat::Q4K => nibbles(bytes, 16 + sub_block / 2 * SUB_BLOCK, sub_block % 2),
        BlockFormat::Q5K => {
            let low = nibbles(bytes, 48 + sub_block / 2 * SUB_BLOCK, sub_block % 2);
            let high: QuantWords = read_words(bytes, 16);
            std::array::from_fn(|at| low[at] | (high[at] >> sub_block & 0x0101_0101) << 4)
        }
        _ => {
            let low = nibbles(bytes, half * 64 + quarter % 2 * SUB_BLOCK, quarter / 2);
            let high: QuantWords = read_words(bytes, 128 + half * SUB_BLOCK);
            std::array::from_fn(|at| low[at] | (high[at] >> (2 * quarter) & 0x0303_0303) << 4)
        }
    }
}

/// The low (`upper` 0) or the high (`upper` 1) nibbles of 32 bytes.
#[inline(always)]
fn nibbles(bytes: &[u8], start: usize, upper: usize) -> QuantWords {
    read_words(bytes, start).map(|word| word >> (4 * upper) & 0x0F0F_0F0F)
}

/// Dequantizes a block into `out`.
#[inline(always)]
pub(super) fn dequantize(format: BlockFormat, bytes: &[u8], out: &mut [f32]) {
    if format == BlockFormat::Q6K {
        let (super_scale, scales) = q6_k_scales(bytes);
        for (sub_block, (out, scales)) in
            out.chunks_exact_mut(SUB_BLOCK).zip(scales.chunks_exact(2)).enumerate()
        {
            let quants = quant_bytes(unpack_quants(format, bytes, sub_block));
            let halves = out.chunks_exact_mut(SUB_BLOCK / 2).zip(quants.chunks_exact(SUB_BLOCK / 2));
            for ((out, quants), scale) in halves.zip(scales) {
                let scale = super_scale.to_f32_const() * f32::from(scale.cast_signed());
                for (out, quant) in out.iter_mut().zip(quants) {
                    *out = f32::from(quant.cast_signed() - 32) * scale;
                }
            }
        }
        return;
    }
    let ScalesAndMins { super_scales, scales, mins } = ScalesAndMins::of(bytes);
    let [super_scale, super_min] = super_scales.map(f16::to_f32_const);
    for (sub_block, out) in out.chunks_exact_mut(SUB_BLOCK).enumerate() {
        let scale = super_scale * f32::from(scales[sub_block]);
        let min = super_min * f32::from(mins[sub_block]);
        for (out, quant) in out.iter_mut().zip(quant_bytes(unpack_quants(format, bytes, sub_block))) {
            *out = f32::from(quant) * scale - min;
        }
    }
}
