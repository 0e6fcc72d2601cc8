//! GGUF's formats of 32 elements that share a scale: `Q8_0`, `Q4_0`, `Q4_1`, `Q5_0`, `Q5_1`.
//!
//! ```text
//! byte    0     2     4     6     8                    18    20    22    24   34
//! Q8_0    | d   | qs[32], int8                                                |   x = d q
//! Q4_0    | d   | qs[16]                               |                          x = d (q - 8)
//! Q4_1    | d   | m   | qs[16]                               |                    x = d q + m
//! Q5_0    | d   | qh[4]     | qs[16]                               |              x = d (q - 16)
//! Q5_1    | d   | m   | qh[4]     | qs[16]                               |        x = d q + m
//!
//! d    scale, f16                       m    minimum, f16
//! qs   byte i: low nibble the low four bits of quant i, high nibble those of quant i + 16
//! qh   little-endian word: bit i is the fifth bit of quant i
//! ```
//!
//! Source: ggml `dequantize_row_*`, `quantize_row_q8_0_ref`, `quantize_row_q4_0_ref`, bit for bit.
//! Leaves out: quantizing to `Q4_1`, `Q5_0` and `Q5_1`.

use half::f16;

use super::format::{BlockFormat, LEGACY_BLOCK};
use super::words::{QuantWords, quant_bytes, read_f16, read_words};

/// Where `qh` (in the 5-bit formats) and `qs` begin.
fn quant_starts(format: BlockFormat) -> (Option<usize>, usize) {
    match format {
        BlockFormat::Q4_1 => (None, 4),
        BlockFormat::Q5_0 => (Some(2), 6),
        BlockFormat::Q5_1 => (Some(4), 8),
        _ => (None, 2),
    }
}

/// The quants of a block: signed bytes for `Q8_0`, unsigned for the others (the zero point is not subtracted).
#[inline(always)]
pub(super) fn unpack_quants(format: BlockFormat, bytes: &[u8]) -> QuantWords {
    let (fifth, start) = quant_starts(format);
    if format == BlockFormat::Q8_0 {
        return read_words(bytes, start);
    }
    let nibbles: [u32; 4] = read_words(bytes, start);
    let [bits] = fifth.map_or([0], |start| read_words(bytes, start));
    std::array::from_fn(|step| {
        let low = nibbles[step % 4] >> (step / 4 * 4) & 0x0F0F_0F0F;
        // Spreads four bits, one to a byte: the partial products do not overlap.
        let high = ((bits >> (4 * step) & 15) * 0x0020_4081) & 0x0101_0101;
        low | high << 4
    })
}

/// The scale `d` of a block, and its minimum `m` in the formats that have one.
#[inline(always)]
pub(crate) fn scale_and_min(format: BlockFormat, bytes: &[u8]) -> (f16, Option<f16>) {
    let has_min = matches!(format, BlockFormat::Q4_1 | BlockFormat::Q5_1);
    (read_f16(bytes, 0), has_min.then(|| read_f16(bytes, 2)))
}

/// Dequantizes a block into `out`.
#[inline(always)]
pub(super) fn dequantize(format: BlockFormat, bytes: &[u8], out: &mut [f32]) {
    let (scale, min) = scale_and_min(format, bytes);
    let (scale, min) = (scale.to_f32_const(), min.map(f16::to_f32_const));
    let zero_point = match format {
        BlockFormat::Q4_0 => 8,
        BlockFormat::Q5_0 => 16,
        _ => 0,
    };
    for (out, quant) in out.iter_mut().zip(quant_bytes(unpack_quants(format, bytes))) {
        let product = f32::from(quant.cast_signed() - zero_point) * scale;
        *out = min.map_or(product, |min| product + min);
    }
}

/// Quantizes a block whose largest magnitude is `max`.
pub(super) fn quantize_q8_0(values: &[f32], max: f32, bytes: &mut [u8]) {
    let scale = max / 127.0;
    let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    bytes[..2].copy_from_slice(&f16::from_f32(scale).to_le_bytes());
    for (quant, x) in bytes[2..].iter_mut().zip(values) {
        *quant = ((x * inverse).round() as i8).cast_unsigned();
    }
}

/// Quantizes a block whose largest magnitude is `max`.
pub(super) fn quantize_q4_0(values: &[f32], max: f32, bytes: &mut [u8]) {
    // The first element of the largest magnitude maps to -8 exactly, whatever its sign.
    let largest = values.iter().copied().find(|x| x.abs() == max).unwrap_or(0.0);
    let scale = largest / -8.0;
    let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    bytes[..2].copy_from_slice(&f16::from_f32(scale).to_le_bytes());
    let quant = |x: f32| ((x * inverse + 8.5) as u8).min(15);
    let (low, high) = values.split_at(LEGACY_BLOCK / 2);
    for ((byte, &low), &high) in bytes[2..].iter_mut().zip(low).zip(high) {
        *byte = quant(low) | quant(high) << 4;
    }
}
