//! NF4 (Dettmers et al., 2023): blocks of 64 elements, each an index of 4 bits into a codebook of 16 values, spaced as
//! the quantiles of a normal distribution; with and without double quantization.
//!
//! ```text
//! quants, per block of 64       scales, apart from them
//! byte  0            32         NF4         f32 absmax per block
//!       | qs[32]     |          NF4 double  u8 per block, an index into the signed dynamic map;
//!                                           f32 absmax per 256 blocks; f32 mean of all scales
//!
//! qs    byte i: high nibble quant 2 i, low nibble quant 2 i + 1
//! x = codebook[q] * scale
//! ```
//!
//! Source: bitsandbytes, bit for bit but for the mean of the scales, which is summed in f64 here.

use super::dynamic_map::{DYNAMIC_MAP_BLOCK, DynamicMap, Sign};
use super::format::NF4_BLOCK;
use super::words::{QuantWords, read_words};

/// The codebook (bitsandbytes `get_4bit_type("nf4")`).
const CODEBOOK: [f32; 16] = [
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

/// The codebook in integers, for products of 8-bit integers, and the unit they are in. 112 is the divisor below 128
/// with the smallest rounding error: 0.3% of the codebook's root mean square (127 has 0.4%).
pub(crate) const INT8_UNIT: f32 = 1.0 / 112.0;
pub(crate) const INT8_CODEBOOK: [i8; 16] = {
    let mut rounded = [0; 16];
    let mut at = 0;
    while at < 16 {
        // To nearest: a cast truncates.
        let value = CODEBOOK[at] / INT8_UNIT;
        rounded[at] = (value + if value < 0.0 { -0.5 } else { 0.5 }) as i8;
        at += 1;
    }
    rounded
};

/// Both values of every byte, the high nibble's first.
static VALUE_PAIRS: [[f32; 2]; 256] = {
    let mut pairs = [[0.0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        pairs[byte] = [CODEBOOK[byte >> 4], CODEBOOK[byte & 15]];
        byte += 1;
    }
    pairs
};

/// The scales of the blocks of a tensor.
#[derive(Clone, Debug)]
pub(super) enum Nf4Scales {
    /// One f32 per block.
    Plain(Vec<f32>),
    /// Double quantization: `scale = map[quant] * absmax + mean`.
    Double { quants: Vec<u8>, absmax: Vec<f32>, mean: f32 },
}

impl Nf4Scales {
    /// Quantizes scales to 8 bits: their differences from the mean, by the dynamic map.
    pub(super) fn double(mut scales: Vec<f32>) -> Self {
        let mean = scales.iter().map(|&x| f64::from(x)).sum::<f64>() / scales.len().max(1) as f64;
        let mean = mean as f32;
        for scale in &mut scales {
            *scale -= mean;
        }
        let map = DynamicMap::of(Sign::Signed);
        let mut quants = vec![0; scales.len()];
        let blocks = quants.chunks_mut(DYNAMIC_MAP_BLOCK).zip(scales.chunks(DYNAMIC_MAP_BLOCK));
        let absmax = blocks.map(|(quants, scales)| map.quantize(scales, quants)).collect();
        Nf4Scales::Double { quants, absmax, mean }
    }

    /// The scale of block `block`.
    #[inline(always)]
    pub(super) fn of(&self, block: usize) -> f32 {
        match self {
            Nf4Scales::Plain(scales) => scales[block],
            Nf4Scales::Double { quants, absmax, mean } => {
                let map = DynamicMap::of(Sign::Signed).values();
                map[quants[block] as usize] * absmax[block / DYNAMIC_MAP_BLOCK] + mean
            }
        }
    }
}

/// Dequantizes a block into `out`.
#[inline(always)]
pub(super) fn dequantize(scale: f32, bytes: &[u8], out: &mut [f32]) {
    for (out, &pair) in out.chunks_exact_mut(2).zip(bytes) {
        let values = VALUE_PAIRS[pair as usize];
        (out[0], out[1]) = (values[0] * scale, values[1] * scale);
    }
}

/// The 32 quants of half `half` of a block.
#[inline(always)]
pub(super) fn unpack_quants(bytes: &[u8], half: usize) -> QuantWords {
    let own: [u32; 4] = read_words(bytes, half * NF4_BLOCK / 4);
    std::array::from_fn(|step| {
        // Two bytes, moved to bytes 0 and 2; then each byte's nibbles to two bytes, the high nibble first.
        let two = own[step / 2] >> (step % 2 * 16);
        let spread = two & 0xFF | (two & 0xFF00) << 8;
        spread >> 4 & 0x000F_000F | (spread & 0x000F_000F) << 8
    })
}

/// Quantizes a block whose largest magnitude is `max`.
pub(super) fn quantize(values: &[f32], max: f32, bytes: &mut [u8]) {
    let inverse = 1.0 / max.max(1e-38);
    // The number of midpoints between neighbours of the codebook that lie below the value.
    let quant = |x: f32| {
        let x = (x * inverse).clamp(-1.0, 1.0);
        CODEBOOK.windows(2).filter(|pair| (pair[0] + pair[1]) / 2.0 < x).count() as u8
    };
    for (byte, pair) in bytes.iter_mut().zip(values.chunks_exact(2)) {
        *byte = quant(pair[0]) << 4 | quant(pair[1]);
    }
}
