//! GGUF's formats of 32 elements that share a scale: `Q8_0`, `Q4_0`, `Q4_1`, `Q5_0`, `Q5_1`.
//!
//! A block begins with its scale as f16, then the smallest element where the format has one (`_1`), then the fifth bits of
//! all elements where there are such, then the elements: 8 bits each, or the low halves of 16 bytes and then their high
//! halves. Source: ggml `dequantize_row_*`, `quantize_row_q8_0_ref`, `quantize_row_q4_0_ref`, bit for bit.
//! Leaves out: making `Q4_1`, `Q5_0` and `Q5_1`.

use half::f16;

use super::{BlockFormat, Words, bytes_of, words_at};

/// Elements of a block.
pub(super) const ELEMENTS: usize = 32;

/// Where the fifth bits and the elements begin.
fn offsets(format: BlockFormat) -> (Option<usize>, usize) {
    match format {
        BlockFormat::Q4_1 => (None, 4),
        BlockFormat::Q5_0 => (Some(2), 6),
        BlockFormat::Q5_1 => (Some(4), 8),
        _ => (None, 2),
    }
}

fn half_at(bytes: &[u8], at: usize) -> f16 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// The levels of a block, none of which has a sign, but for `Q8_0`, whose levels are bytes with one; four to a word.
#[inline(always)]
pub(super) fn words(format: BlockFormat, bytes: &[u8]) -> Words {
    let (fifth, from) = offsets(format);
    if format == BlockFormat::Q8_0 {
        return words_at(bytes, from);
    }
    let both: [u32; 4] = words_at(bytes, from);
    let [bits] = fifth.map_or([0], |at| words_at(bytes, at));
    std::array::from_fn(|step| {
        let low = both[step % 4] >> (step / 4 * 4) & 0x0F0F_0F0F;
        // Four bits, a byte apart: the product's parts do not meet.
        let high = ((bits >> (4 * step) & 15) * 0x0020_4081) & 0x0101_0101;
        low | high << 4
    })
}

/// The scale of a block, and the smallest element where it has one.
#[inline(always)]
pub(crate) fn scale_and_smallest(format: BlockFormat, bytes: &[u8]) -> (f16, Option<f16>) {
    let smallest = matches!(format, BlockFormat::Q4_1 | BlockFormat::Q5_1);
    (half_at(bytes, 0), smallest.then(|| half_at(bytes, 2)))
}

/// Widens a block into `out`.
#[inline(always)]
pub(super) fn decode(format: BlockFormat, bytes: &[u8], out: &mut [f32]) {
    let (scale, smallest) = scale_and_smallest(format, bytes);
    let (scale, smallest) = (scale.to_f32_const(), smallest.map(f16::to_f32_const));
    // What a level of zero means.
    let zero = match format {
        BlockFormat::Q4_0 => 8,
        BlockFormat::Q5_0 => 16,
        _ => 0,
    };
    for (out, level) in out.iter_mut().zip(bytes_of(words(format, bytes))) {
        let product = f32::from(level.cast_signed() - zero) * scale;
        *out = smallest.map_or(product, |smallest| product + smallest);
    }
}

/// Stores a block whose largest magnitude is `max`.
pub(super) fn encode_q8_0(values: &[f32], max: f32, codes: &mut [u8]) {
    let scale = max / 127.0;
    let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    codes[..2].copy_from_slice(&f16::from_f32(scale).to_le_bytes());
    for (code, x) in codes[2..].iter_mut().zip(values) {
        *code = ((x * inverse).round() as i8).cast_unsigned();
    }
}

/// Stores a block whose largest magnitude is `max`.
pub(super) fn encode_q4_0(values: &[f32], max: f32, codes: &mut [u8]) {
    // The first of the largest has the level -8 exactly.
    let largest = values.iter().copied().find(|x| x.abs() == max).unwrap_or(0.0);
    let scale = largest / -8.0;
    let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    codes[..2].copy_from_slice(&f16::from_f32(scale).to_le_bytes());
    let level = |x: f32| ((x * inverse + 8.5) as u8).min(15);
    let (low, high) = values.split_at(ELEMENTS / 2);
    for ((code, &low), &high) in codes[2..].iter_mut().zip(low).zip(high) {
        *code = level(low) | level(high) << 4;
    }
}
