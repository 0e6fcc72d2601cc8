//! NF4 (Dettmers et al., 2023): 64 elements of 4 bits, spaced as the quantiles of a normal distribution, with and without
//! double quantization, as bitsandbytes computes it. Scales are stored apart from the elements.

use super::{Words, words_at};
use crate::optimizer::{BLOCK as NESTED, DynamicMap, Sign};

/// Elements of a block.
pub(super) const ELEMENTS: usize = 64;

/// NF4's levels (bitsandbytes `get_4bit_type("nf4")`).
const LEVELS: [f32; 16] = [
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

/// What a scale is multiplied by, and the levels that are nearest in integers times that: the one of all that rounds them least,
/// by 0.3% of their mean square (0.4% at 127).
pub(crate) const STEP: f32 = 1.0 / 112.0;
pub(crate) const ROUNDED: [i8; 16] = {
    let mut rounded = [0; 16];
    let mut at = 0;
    while at < 16 {
        // To nearest.
        let level = LEVELS[at] / STEP;
        rounded[at] = (level + if level < 0.0 { -0.5 } else { 0.5 }) as i8;
        at += 1;
    }
    rounded
};

/// Both levels of every byte, the high half first.
static PAIRS: [[f32; 2]; 256] = {
    let mut pairs = [[0.0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        pairs[byte] = [LEVELS[byte >> 4], LEVELS[byte & 15]];
        byte += 1;
    }
    pairs
};

/// The scales of blocks.
#[derive(Clone, Debug)]
pub(super) enum Scales {
    /// One f32 per block.
    Plain(Vec<f32>),
    /// A code per block, a largest magnitude per 256 of them, and the mean that was taken away first.
    Nested { codes: Vec<u8>, maxima: Vec<f32>, mean: f32 },
}

impl Scales {
    /// Scales of 8 bits: what remains of them without their mean, by the dynamic map.
    pub(super) fn nested(mut scales: Vec<f32>) -> Self {
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

    #[inline(always)]
    pub(super) fn of(&self, block: usize) -> f32 {
        match self {
            Scales::Plain(scales) => scales[block],
            Scales::Nested { codes, maxima, mean } => {
                let map = DynamicMap::of(Sign::Signed).values();
                map[codes[block] as usize] * maxima[block / NESTED] + mean
            }
        }
    }
}

/// Bytes of the scales of `blocks` blocks, nested or not.
pub(super) fn plain_scale_bytes(blocks: usize) -> usize {
    blocks * size_of::<f32>()
}

pub(super) fn nested_scale_bytes(blocks: usize) -> usize {
    blocks + blocks.div_ceil(NESTED) * size_of::<f32>() + size_of::<f32>()
}

/// Widens a block into `out`.
#[inline(always)]
pub(super) fn decode(scale: f32, bytes: &[u8], out: &mut [f32]) {
    for (out, &pair) in out.chunks_exact_mut(2).zip(bytes) {
        let levels = PAIRS[pair as usize];
        (out[0], out[1]) = (levels[0] * scale, levels[1] * scale);
    }
}

/// The places of the levels of half `half` of a block, four to a word.
#[inline(always)]
pub(super) fn words(bytes: &[u8], half: usize) -> Words {
    let own: [u32; 4] = words_at(bytes, half * ELEMENTS / 4);
    std::array::from_fn(|step| {
        let two = own[step / 2] >> (step % 2 * 16);
        let apart = two & 0xFF | (two & 0xFF00) << 8;
        apart >> 4 & 0x000F_000F | (apart & 0x000F_000F) << 8
    })
}

/// Stores a block whose largest magnitude is `max`.
pub(super) fn encode(values: &[f32], max: f32, codes: &mut [u8]) {
    let inverse = 1.0 / max.max(1e-38);
    let level = |x: f32| {
        let x = (x * inverse).clamp(-1.0, 1.0);
        LEVELS.windows(2).filter(|pair| (pair[0] + pair[1]) / 2.0 < x).count() as u8
    };
    for (code, pair) in codes.iter_mut().zip(values.chunks_exact(2)) {
        *code = level(pair[0]) << 4 | level(pair[1]);
    }
}
