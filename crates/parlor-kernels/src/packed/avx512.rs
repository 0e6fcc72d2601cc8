//! The product with `vpdpbusd` on 512-bit registers: sums of up to 6 rows by 32 outputs stay in 12 registers, the integers of
//! a block in 12 more, and a block's weights pass by.

use std::arch::x86_64::*;

use super::groups::HEAD;
use super::inputs::BlockOf;
use super::integers::{Sums, Tile};
use super::{BLOCK, HALVES, LANES, Order, PANEL, STEP};
use crate::blocks::of_256::GROUPS;

/// Input rows of a tile, at most.
pub(super) const ROWS: usize = 6;
const STEPS: usize = BLOCK / STEP;
/// Bytes that are asked for ahead of those in use: about as many as come in the time that memory takes to answer.
const AHEAD: usize = 6 << 10;

/// Whether the instructions are there.
pub(super) fn here() -> bool {
    crate::isa::int8()
}

/// # Safety
/// [`here`]; the sums are the caller's alone.
pub(super) unsafe fn tile(tile: Tile<'_>, sums: Sums) {
    let (rows, blocks) = (sums.rows, tile.blocks(sums.rows));
    macro_rules! by_rows {
        ($($rows:literal)*) => {
            match (rows, tile.order) {
                // SAFETY: the instruction set is there, the sizes were just checked.
                $(($rows, Order::Nibbles) => unsafe { blocks_of::<$rows, true, false>(tile, blocks, sums) },
                ($rows, Order::Groups) => unsafe { blocks_of::<$rows, true, true>(tile, blocks, sums) },
                ($rows, _) => unsafe { blocks_of::<$rows, false, false>(tile, blocks, sums) },)*
                _ => assert_eq!(rows, 0, "a tile has at most {ROWS} rows"),
            }
        };
    }
    by_rows!(1 2 3 4 5 6);
}

/// # Safety
/// AVX-512 F, BW and VNNI are there; `sums` holds `R` rows, `tile` so many blocks of each.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn blocks_of<const R: usize, const FOUR_BITS: bool, const GROUPED: bool>(
    tile: Tile<'_>,
    blocks: usize,
    sums: Sums,
) {
    let lines = if FOUR_BITS { STEPS / 2 } else { STEPS };
    let low = _mm512_set1_epi8(15);
    let (codes, about) = (tile.codes.as_ptr(), tile.about.as_ptr());
    let mut record: *const u8 = tile.lines.as_ptr().cast();
    // SAFETY: every address lies in a row, a record or the sums, as the contract says; what is asked for
    // ahead need not be there.
    unsafe {
        let mut totals = [[_mm512_setzero_ps(); HALVES]; R];
        for (r, totals) in totals.iter_mut().enumerate() {
            let soon = sums.soon.0.wrapping_add(r * sums.soon.1);
            for half in 0..HALVES {
                _mm_prefetch::<_MM_HINT_ET0>(soon.wrapping_add(half * LANES).cast());
            }
            for (half, total) in totals.iter_mut().enumerate() {
                if !sums.fresh {
                    *total = _mm512_loadu_ps(sums.to.add(r * sums.stride + half * LANES));
                }
            }
        }
        let mut head = record;
        for block in 0..blocks {
            if GROUPED && block % GROUPS == 0 {
                head = record;
                for line in 0..HEAD {
                    _mm_prefetch::<_MM_HINT_T0>(record.wrapping_add(AHEAD + 64 * line).cast());
                }
                record = record.add(64 * HEAD);
            }
            let own = record;
            let mut integers = [[_mm512_setzero_si512(); HALVES]; R];
            for (r, integers) in integers.iter_mut().enumerate() {
                let about = &*about.add(r * tile.stride + block);
                if !GROUPED {
                    let sum = _mm512_set1_epi32(about.minus_sum);
                    // Times 8 or 128: the offset of the format.
                    let start =
                        if FOUR_BITS { _mm512_slli_epi32::<3>(sum) } else { _mm512_slli_epi32::<7>(sum) };
                    *integers = [start; HALVES];
                }
            }
            let mut scales = [_mm512_setzero_ps(); HALVES];
            for (half, scales) in scales.iter_mut().enumerate() {
                *scales = if GROUPED { group(head, own, 0, half) } else { halves(own, half) };
            }
            _mm_prefetch::<_MM_HINT_T0>(record.wrapping_add(AHEAD).cast());
            record = record.add(64);
            for line in 0..lines {
                let at = [record.add(128 * line), record.add(128 * line + 64)];
                let own = at.map(|at| {
                    _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(AHEAD).cast());
                    _mm512_load_si512(at.cast())
                });
                let mut add = |weights: [__m512i; HALVES], step: usize| {
                    // One of two addresses and the stride, once or twice, make those of six rows.
                    let four = codes.wrapping_add(block).cast::<i32>().wrapping_add(step);
                    let stride = tile.stride * BLOCK;
                    let fours = [four, four.wrapping_byte_add(3 * stride)];
                    macro_rules! add_rows {
                        ($($row:literal)*) => {
                            $(if let Some(integers) = integers.get_mut($row) {
                                multiply_add::<{ $row % 3 }>(integers, weights, fours[$row / 3], stride);
                            })*
                        };
                    }
                    add_rows!(0 1 2 3 4 5);
                };
                if FOUR_BITS {
                    add(own.map(|own| _mm512_and_si512(own, low)), line);
                    add(own.map(|own| _mm512_and_si512(_mm512_srli_epi16::<4>(own), low)), line + lines);
                } else {
                    add(own, line);
                }
            }
            record = record.add(64 * HALVES * lines);
            let mut offsets = [_mm512_setzero_ps(); HALVES];
            if GROUPED {
                for (half, offsets) in offsets.iter_mut().enumerate() {
                    *offsets = group(head, own, 1, half);
                }
            }
            for (r, (totals, integers)) in totals.iter_mut().zip(integers).enumerate() {
                let about = *about.add(r * tile.stride + block);
                let scale = _mm512_set1_ps(about.scale);
                for half in 0..HALVES {
                    let factor = _mm512_mul_ps(scales[half], scale);
                    totals[half] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(integers[half]), factor, totals[half]);
                    if GROUPED {
                        let less = _mm512_set1_ps(about.minus_total());
                        totals[half] = _mm512_fmadd_ps(offsets[half], less, totals[half]);
                    }
                }
            }
        }
        for (r, totals) in totals.into_iter().enumerate() {
            for (half, total) in totals.into_iter().enumerate() {
                _mm512_storeu_ps(sums.to.add(r * sums.stride + half * LANES), total);
            }
        }
    }
}

/// The f16 of a half of a line.
///
/// # Safety
/// AVX-512F is there, and a line, aligned.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn halves(line: *const u8, half: usize) -> __m512 {
    // SAFETY: the contract of the caller.
    unsafe { _mm512_cvtph_ps(_mm256_load_si256(line.add(half * 2 * LANES).cast())) }
}

/// Scales (0) or offsets (1) of a half's lanes in the group that begins with `line`, times those of its record.
///
/// # Safety
/// AVX-512F is there, and the lines, aligned.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn group(head: *const u8, line: *const u8, which: usize, half: usize) -> __m512 {
    // SAFETY: the contract of the caller.
    unsafe {
        let bytes = _mm_load_si128(line.add(which * PANEL + half * LANES).cast());
        _mm512_mul_ps(halves(head.add(64 * which), half), _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes)))
    }
}

/// `sums += weights * four`, `four` being four bytes in memory that meet every lane: those `TIMES` strides, up to two, past
/// an address. The instructions are written out because as intrinsics the compiler fetches the bytes of many
/// steps early, for which there are no registers, and puts sums in memory instead: a third of the time. The bytes are fetched
/// once for both halves, since a processor fetches less often than it multiplies where two programs share it.
///
/// # Safety
/// AVX-512F and VNNI are there, and four bytes at that address.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn multiply_add<const TIMES: usize>(
    sums: &mut [__m512i; HALVES],
    weights: [__m512i; HALVES],
    four: *const i32,
    stride: usize,
) {
    macro_rules! with {
        ($address:literal $(, $index:ident)?) => {
            // SAFETY: the instructions read four bytes and write the registers they are given.
            std::arch::asm!(
                concat!("vpbroadcastd {x}, dword ptr [", $address, "]"),
                "vpdpbusd {low}, {own_low}, {x}",
                "vpdpbusd {high}, {own_high}, {x}",
                x = out(zmm_reg) _,
                low = inout(zmm_reg) sums[0],
                high = inout(zmm_reg) sums[1],
                own_low = in(zmm_reg) weights[0],
                own_high = in(zmm_reg) weights[1],
                four = in(reg) four,
                $($index = in(reg) $index,)?
                options(pure, readonly, nostack, preserves_flags),
            )
        };
    }
    // SAFETY: as in the macro.
    unsafe {
        match TIMES {
            0 => with!("{four}"),
            1 => with!("{four} + {stride}", stride),
            _ => with!("{four} + 2 * {stride}", stride),
        }
    }
}

/// As `inputs::nearest`, bit for bit, block by block.
///
/// # Safety
/// [`here`]; there are as many blocks of `x` as of `codes` and `about`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) unsafe fn round(x: &[f32], codes: &mut [[i8; BLOCK]], about: &mut [BlockOf]) {
    assert!(x.len() == codes.len() * BLOCK && about.len() == codes.len(), "blocks of 32");
    let ones = _mm256_set1_epi8(1);
    for ((x, codes), about) in x.chunks_exact(BLOCK).zip(codes).zip(about) {
        // SAFETY: a block is 32 values and as many codes.
        unsafe {
            let x = [_mm512_loadu_ps(x.as_ptr()), _mm512_loadu_ps(x.as_ptr().add(16))];
            let zero = _mm512_setzero_ps();
            // A NaN is dropped from the maximum, and poisons the scale.
            let max = _mm512_max_ps(_mm512_abs_ps(x[1]), _mm512_max_ps(_mm512_abs_ps(x[0]), zero));
            let nan = x.map(|x| not_finite(x)).into_iter().fold(0, |a, b| a | b);
            let max = _mm512_reduce_max_ps(max);
            let poison = if nan != 0 { f32::NAN } else { 0.0 };
            about.scale = max / 127.0 + poison;
            let inverse = _mm512_set1_ps(if max > 0.0 { 127.0 / max } else { 0.0 });
            let bytes = x.map(|x| _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(x, inverse))));
            let bytes = _mm256_set_m128i(bytes[1], bytes[0]);
            _mm256_storeu_si256(codes.as_mut_ptr().cast(), bytes);
            let sums = _mm256_dpbusd_epi32(_mm256_setzero_si256(), ones, bytes);
            let sums = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256::<1>(sums));
            let sums = _mm_add_epi32(sums, _mm_shuffle_epi32::<0x4E>(sums));
            about.minus_sum = -_mm_cvtsi128_si32(_mm_add_epi32(sums, _mm_shuffle_epi32::<0xB1>(sums)));
        }
    }
}

/// Lanes that are NaN or infinite.
#[inline]
#[target_feature(enable = "avx512f")]
fn not_finite(x: __m512) -> __mmask16 {
    let exponent = _mm512_set1_epi32(0x7F80_0000);
    let bits = _mm512_and_si512(_mm512_castps_si512(x), exponent);
    _mm512_cmpeq_epi32_mask(bits, exponent)
}
