//! GGUF's formats of 256 elements in groups, whose scales have few bits and a scale of their own: `Q4_K`, `Q5_K`, `Q6_K`.
//!
//! Source: ggml `block_q4_K`, `block_q5_K`, `block_q6_K` and their `dequantize_row_*`, bit for bit: a product is rounded
//! before what is taken away from it. Leaves out: making them, and the formats of 2 and 3 bits.

use half::f16;

use super::{BlockFormat, Words, bytes_of, words_at};

/// Elements of a block.
pub(super) const ELEMENTS: usize = 256;

/// Elements of a group of `Q4_K` and `Q5_K`, and groups of a block.
pub(crate) const GROUP: usize = 32;
pub(crate) const GROUPS: usize = ELEMENTS / GROUP;

fn f16_at(bytes: &[u8], at: usize) -> f16 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// Scales of a block of `Q4_K` or `Q5_K`: what those of the groups and their offsets are multiplied by, and those.
pub(crate) struct WithOffsets {
    pub(crate) factors: [f16; 2],
    pub(crate) scales: [u8; GROUPS],
    pub(crate) offsets: [u8; GROUPS],
}

impl WithOffsets {
    #[inline(always)]
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let (mut scales, mut offsets) = ([0; GROUPS], [0; GROUPS]);
        for (group, (scale, offset)) in scales.iter_mut().zip(&mut offsets).enumerate() {
            (*scale, *offset) = scale_and_offset(&bytes[4..16], group);
        }
        Self { factors: [f16_at(bytes, 0), f16_at(bytes, 2)], scales, offsets }
    }
}

/// Scale and offset of group `index` of 32, six bits each, which lie in 12 bytes: four of either whole, and above them
/// the highest two bits of the last four, whose lower bits follow.
#[inline(always)]
fn scale_and_offset(bytes: &[u8], index: usize) -> (u8, u8) {
    if index < 4 {
        (bytes[index] & 63, bytes[index + 4] & 63)
    } else {
        let low = bytes[index + 4];
        (low & 15 | bytes[index - 4] >> 6 << 4, low >> 4 | bytes[index] >> 6 << 4)
    }
}

/// What the scales of a block of `Q6_K` are multiplied by, and those of 16 elements each, with a sign.
#[inline(always)]
pub(crate) fn scales_of_halves(bytes: &[u8]) -> (f16, &[u8]) {
    (f16_at(bytes, 208), &bytes[192..208])
}

/// The levels of group `group` of a block, none of which has a sign, four to a word.
#[inline(always)]
pub(super) fn words(format: BlockFormat, bytes: &[u8], group: usize) -> Words {
    let (half, quarter) = (group / 4, group % 4);
    match format {
        // Both scales, 12 bytes of groups' scales, and then two groups in the halves of 32 bytes each.
        BlockFormat::Q4K => nibbles(bytes, 16 + group / 2 * GROUP, group % 2),
        // Before these the fifth bits, those of group `g` the bits `g` of 32 bytes.
        BlockFormat::Q5K => {
            let low = nibbles(bytes, 48 + group / 2 * GROUP, group % 2);
            let high: Words = words_at(bytes, 16);
            std::array::from_fn(|at| low[at] | (high[at] >> group & 0x0101_0101) << 4)
        }
        // Low halves of 256 elements in 128 bytes, their high two bits in 64, 16 scales of 8 bits, the scale of those; twice
        // over for 128 elements each, whose four groups take 4 bits of the same 64 bytes and 2 of the same 32.
        _ => {
            let low = nibbles(bytes, half * 64 + quarter % 2 * GROUP, quarter / 2);
            let high: Words = words_at(bytes, 128 + half * GROUP);
            std::array::from_fn(|at| low[at] | (high[at] >> (2 * quarter) & 0x0303_0303) << 4)
        }
    }
}

/// The lower or the upper halves of 32 bytes.
#[inline(always)]
fn nibbles(bytes: &[u8], from: usize, upper: usize) -> Words {
    words_at(bytes, from).map(|word| word >> (4 * upper) & 0x0F0F_0F0F)
}

/// Widens a block into `out`.
#[inline(always)]
pub(super) fn decode(format: BlockFormat, bytes: &[u8], out: &mut [f32]) {
    if format == BlockFormat::Q6K {
        let (factor, scales) = scales_of_halves(bytes);
        for (group, (out, scales)) in out.chunks_exact_mut(GROUP).zip(scales.chunks_exact(2)).enumerate() {
            let levels = bytes_of(words(format, bytes, group));
            let halves = out.chunks_exact_mut(GROUP / 2).zip(levels.chunks_exact(GROUP / 2));
            for ((out, levels), scale) in halves.zip(scales) {
                let scale = factor.to_f32_const() * f32::from(scale.cast_signed());
                for (out, level) in out.iter_mut().zip(levels) {
                    *out = f32::from(level.cast_signed() - 32) * scale;
                }
            }
        }
        return;
    }
    let WithOffsets { factors, scales, offsets } = WithOffsets::of(bytes);
    let [scale_of, offset_of] = factors.map(f16::to_f32_const);
    for (group, out) in out.chunks_exact_mut(GROUP).enumerate() {
        let (scale, offset) = (scale_of * f32::from(scales[group]), offset_of * f32::from(offsets[group]));
        for (out, level) in out.iter_mut().zip(bytes_of(words(format, bytes, group))) {
            *out = f32::from(level) * scale - offset;
        }
    }
}
