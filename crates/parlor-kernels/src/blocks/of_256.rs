//! GGUF's formats of 256 elements in groups, whose scales have few bits and a scale of their own: `Q4_K`, `Q5_K`, `Q6_K`.
//!
//! Source: ggml `block_q4_K`, `block_q5_K`, `block_q6_K` and their `dequantize_row_*`, bit for bit: a product is rounded
//! before what is taken away from it. Leaves out: making them, and the formats of 2 and 3 bits.

use half::f16;

use super::BlockFormat;

/// Elements of a block.
pub(super) const ELEMENTS: usize = 256;

/// Elements of a group of `Q4_K` and `Q5_K`, and groups of a block.
pub(crate) const GROUP: usize = 32;
pub(crate) const GROUPS: usize = ELEMENTS / GROUP;

fn f16_at(bytes: &[u8], at: usize) -> f16 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn half_at(bytes: &[u8], at: usize) -> f32 {
    f16_at(bytes, at).to_f32_const()
}

/// A block of `Q4_K` as it lies: what the groups' scales and offsets are multiplied by, those, and the levels, two groups in the
/// halves of 32 bytes.
pub(crate) struct Q4K<'a> {
    pub(crate) factors: [f16; 2],
    pub(crate) scales: [u8; GROUPS],
    pub(crate) offsets: [u8; GROUPS],
    pub(crate) levels: &'a [u8],
}

impl<'a> Q4K<'a> {
    pub(crate) fn of(bytes: &'a [u8]) -> Self {
        let (mut scales, mut offsets) = ([0; GROUPS], [0; GROUPS]);
        for (group, (scale, offset)) in scales.iter_mut().zip(&mut offsets).enumerate() {
            (*scale, *offset) = scale_and_offset(&bytes[4..16], group);
        }
        Self { factors: [f16_at(bytes, 0), f16_at(bytes, 2)], scales, offsets, levels: &bytes[16..144] }
    }
}

/// Scale and offset of group `index` of 32, six bits each, which lie in 12 bytes: four of either whole, and above them
/// the highest two bits of the last four, whose lower bits follow.
fn scale_and_offset(bytes: &[u8], index: usize) -> (u8, u8) {
    if index < 4 {
        (bytes[index] & 63, bytes[index + 4] & 63)
    } else {
        let low = bytes[index + 4];
        (low & 15 | bytes[index - 4] >> 6 << 4, low >> 4 | bytes[index] >> 6 << 4)
    }
}

/// Widens a block into `out`.
#[inline(always)]
pub(super) fn decode(format: BlockFormat, bytes: &[u8], out: &mut [f32]) {
    match format {
        BlockFormat::Q4K => with_offsets(bytes, None, &bytes[16..], out),
        BlockFormat::Q5K => with_offsets(bytes, Some(&bytes[16..48]), &bytes[48..], out),
        _ => signed(bytes, out),
    }
}

/// Both scales, 12 bytes of groups' scales, the fifth bits: those of group `g` are the bits `g` of 32 bytes, and
/// then two groups in the halves of 32 bytes each.
#[inline(always)]
fn with_offsets(bytes: &[u8], fifth: Option<&[u8]>, codes: &[u8], out: &mut [f32]) {
    let (scales, offsets) = (half_at(bytes, 0), half_at(bytes, 2));
    for (group, out) in out.chunks_exact_mut(32).enumerate() {
        let (scale, offset) = scale_and_offset(&bytes[4..16], group);
        let (scale, offset) = (scales * f32::from(scale), offsets * f32::from(offset));
        let (codes, shift) = (&codes[group / 2 * 32..][..32], group % 2 * 4);
        for (at, (out, code)) in out.iter_mut().zip(codes).enumerate() {
            let high = fifth.map_or(0, |bits| (bits[at] >> group & 1) << 4);
            *out = f32::from(code >> shift & 15 | high) * scale - offset;
        }
    }
}

/// Low halves of 256 elements in 128 bytes, their high two bits in 64, 16 scales of 8 bits, the scale of those; twice
/// over for 128 elements each.
#[inline(always)]
fn signed(bytes: &[u8], out: &mut [f32]) {
    let scales = half_at(bytes, 208);
    for (group, out) in out.chunks_exact_mut(16).enumerate() {
        let scale = scales * f32::from(bytes[192 + group].cast_signed());
        // 128 elements are a half, whose quarters of 32 take 4 bits of the same 64 bytes and 2 of the same 32.
        let (half, quarter, within) = (group / 8, group % 8 / 2, group % 2 * 16);
        let low = &bytes[half * 64 + quarter % 2 * 32 + within..][..16];
        let high = &bytes[128 + half * 32 + within..][..16];
        for ((out, low), high) in out.iter_mut().zip(low).zip(high) {
            let level = low >> (quarter / 2 * 4) & 15 | (high >> (quarter * 2) & 3) << 4;
            *out = f32::from(level.cast_signed() - 32) * scale;
        }
    }
}
