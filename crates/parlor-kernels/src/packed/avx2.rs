//! The product on 256-bit registers without an instruction for it: the integers of a block stay in registers, for up to 4 rows by
//! 16 outputs, or 2 by 32, and a block's weights pass by.
//!
//! `vpmaddubsw` multiplies bytes without a sign by bytes with one and adds two neighbours in 16 bits. Weights of 8 bits give it
//! their magnitudes, and the input their signs: two products are at most 2 * 128 * 127, which 16 bits hold. Weights of 4
//! bits are below 16, and all eight steps of a block (8 * 2 * 15 * 127) fit before they are widened.

use std::arch::x86_64::*;

use super::groups::HEAD;
use super::integers::{Sums, Tile};
use super::{BLOCK, Order, PANEL, STEP};
use crate::blocks::of_256::GROUPS;
use crate::isa::{self, Isa};

/// Input rows of a tile, at most.
pub(super) const ROWS: usize = 4;
const STEPS: usize = BLOCK / STEP;
/// Lanes of a register, and registers of a panel.
const OCTET: usize = 8;
const OCTETS: usize = PANEL / OCTET;
/// Bytes of a line of scales, and of a step's codes.
const SCALES: usize = 2 * PANEL;
const CODES: usize = STEP * PANEL;
/// Bytes that are asked for ahead of those in use: about as many as come in the time that memory takes to answer.
const AHEAD: usize = 6 << 10;

/// Whether the instructions are there.
pub(super) fn here() -> bool {
    isa::allows(Isa::Avx2)
}

/// # Safety
/// [`here`]; the sums are the caller's alone.
pub(super) unsafe fn tile(tile: Tile<'_>, sums: Sums) {
    let (rows, blocks) = (sums.rows, tile.blocks(sums.rows));
    macro_rules! by_rows {
        ($($rows:literal by $octets:literal),*) => {
            match (rows, tile.order) {
                // SAFETY: the instruction set is there, the sizes were just checked.
                $(($rows, Order::Nibbles) => unsafe { blocks_of::<$rows, $octets, true, false>(tile, blocks, sums) },
                ($rows, Order::Groups) => unsafe { blocks_of::<$rows, $octets, true, true>(tile, blocks, sums) },
                ($rows, _) => unsafe { blocks_of::<$rows, $octets, false, false>(tile, blocks, sums) },)*
                _ => assert_eq!(rows, 0, "a tile has at most {ROWS} rows"),
            }
        };
    }
    by_rows!(1 by 4, 2 by 4, 3 by 2, 4 by 2);
}

/// `R` rows of the input, `C` octets of outputs at a time.
///
/// # Safety
/// AVX2, FMA and F16C are there; `sums` holds `R` rows, `tile` so many blocks of each.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn blocks_of<const R: usize, const C: usize, const FOUR_BITS: bool, const GROUPED: bool>(
    tile: Tile<'_>,
    blocks: usize,
    sums: Sums,
) {
    let lines = if FOUR_BITS { STEPS / 2 } else { STEPS };
    let (codes, about) = (tile.codes.as_ptr(), tile.about.as_ptr());
    let mut record: *const u8 = tile.lines.as_ptr().cast();
    // SAFETY: every address lies in a row, a record or the sums, as the contract says; what is asked for
    // ahead need not be there.
    unsafe {
        for row in 0..R {
            sums.begin(row);
        }
        let mut head = record;
        for block in 0..blocks {
            if GROUPED && block % GROUPS == 0 {
                head = record;
                for line in 0..HEAD {
                    _mm_prefetch::<_MM_HINT_T0>(record.wrapping_add(AHEAD + SCALES * line).cast());
                }
                record = record.add(SCALES * HEAD);
            }
            let about: [_; R] = std::array::from_fn(|row| &*about.add(row * tile.stride + block));
            let codes: [*const i32; R] =
                std::array::from_fn(|row| codes.add(row * tile.stride + block).cast());
            _mm_prefetch::<_MM_HINT_T0>(record.wrapping_add(AHEAD).cast());
            for first in (0..OCTETS).step_by(C) {
                let own = record.add(SCALES + first * OCTET * STEP);
                let integers = if FOUR_BITS {
                    let start = about.map(|about| _mm256_set1_epi32(tile.start(*about)));
                    nibbles::<R, C>(codes, own, lines, start)
                } else {
                    bytes::<R, C>(codes, own, lines)
                };
                for c in 0..C {
                    let octet = (first + c) * OCTET;
                    let scales = if GROUPED { group(head, record, 0, octet) } else { halves(record, octet) };
                    for r in 0..R {
                        let factor = _mm256_mul_ps(scales, _mm256_set1_ps(about[r].scale));
                        let to = sums.to.add(r * sums.stride + octet);
                        let integers = _mm256_cvtepi32_ps(integers[r][c]);
                        let mut total = _mm256_fmadd_ps(integers, factor, _mm256_loadu_ps(to));
                        if GROUPED {
                            let less = _mm256_set1_ps(about[r].minus_total());
                            total = _mm256_fmadd_ps(group(head, record, 1, octet), less, total);
                        }
                        _mm256_storeu_ps(to, total);
                    }
                }
            }
            record = record.add(SCALES + CODES * lines);
        }
    }
}

/// Eight f16 of a line, from `octet` on.
///
/// # Safety
/// AVX2 and F16C are there, and the line is.
#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn halves(line: *const u8, octet: usize) -> __m256 {
    // SAFETY: the contract of the caller.
    unsafe { _mm256_cvtph_ps(_mm_loadu_si128(line.add(2 * octet).cast())) }
}

/// Scales (0) or offsets (1) of eight lanes in the group that begins with `line`, times those of its record.
///
/// # Safety
/// AVX2 and F16C are there, and the lines are.
#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn group(head: *const u8, line: *const u8, which: usize, octet: usize) -> __m256 {
    // SAFETY: the contract of the caller.
    unsafe {
        let bytes = _mm_loadl_epi64(line.add(which * PANEL + octet).cast());
        let own = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes));
        _mm256_mul_ps(halves(head.add(SCALES * which), octet), own)
    }
}

/// The next codes of a line, and what comes after them is asked for.
///
/// # Safety
/// AVX2 is there and so many codes are.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn load<const C: usize>(at: *const u8) -> [__m256i; C] {
    std::array::from_fn(|c| {
        // SAFETY: the contract of the caller; what is asked for ahead need not be there.
        unsafe {
            let at = at.add(c * OCTET * STEP);
            if c % 2 == 0 {
                _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(AHEAD).cast());
            }
            _mm256_loadu_si256(at.cast())
        }
    })
}

/// Four bytes in every lane. Written out, because of intrinsics the compiler moves those of many steps together, for which
/// there are no registers, and puts sums in memory instead; and what becomes of them afterwards it does before they are broadcast,
/// in other registers.
///
/// # Safety
/// AVX2 is there, and the bytes, at any address.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) unsafe fn broadcast(four: *const i32) -> __m256i {
    let x;
    // SAFETY: the instruction reads four bytes.
    unsafe {
        std::arch::asm!(
            "vpbroadcastd {x}, dword ptr [{four}]",
            x = out(ymm_reg) x,
            four = in(reg) four,
            options(readonly, nostack, preserves_flags),
        );
    }
    x
}

/// # Safety
/// AVX2 is there; `codes` are those of a block, `own` the first of so many lines of codes, a step each.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn bytes<const R: usize, const C: usize>(
    codes: [*const i32; R],
    own: *const u8,
    lines: usize,
) -> [[__m256i; C]; R] {
    let (ones, flip) = (_mm256_set1_epi16(1), _mm256_set1_epi8(i8::MIN));
    // The weights have their sign here, so that no offset is to be taken away.
    let mut sums = [[_mm256_setzero_si256(); C]; R];
    for step in 0..lines {
        // SAFETY: the contract of the caller.
        let weights =
            unsafe { load::<C>(own.add(step * CODES)) }.map(|weights| _mm256_xor_si256(weights, flip));
        let magnitudes = weights.map(|weights| _mm256_abs_epi8(weights));
        for (sums, codes) in sums.iter_mut().zip(codes) {
            // SAFETY: as above; a step is four bytes at any address.
            let x = unsafe { broadcast(codes.add(step)) };
            for c in 0..C {
                let twos = _mm256_maddubs_epi16(magnitudes[c], _mm256_sign_epi8(x, weights[c]));
                sums[c] = _mm256_add_epi32(sums[c], _mm256_madd_epi16(twos, ones));
            }
        }
    }
    sums
}

/// As [`bytes`], of lines of two steps each, the second one as many steps later; sums begin with `start`.
///
/// # Safety
/// As there.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn nibbles<const R: usize, const C: usize>(
    codes: [*const i32; R],
    own: *const u8,
    lines: usize,
    start: [__m256i; R],
) -> [[__m256i; C]; R] {
    let (ones, low) = (_mm256_set1_epi16(1), _mm256_set1_epi8(15));
    let mut sums = [[_mm256_setzero_si256(); C]; R];
    for line in 0..lines {
        // SAFETY: the contract of the caller.
        let both = unsafe { load::<C>(own.add(line * CODES)) };
        let mut add = |weights: [__m256i; C], step: usize| {
            for (sums, codes) in sums.iter_mut().zip(codes) {
                // SAFETY: as above; a step is four bytes at any address.
                let x = unsafe { broadcast(codes.add(step)) };
                for (sum, weights) in sums.iter_mut().zip(weights) {
                    *sum = _mm256_add_epi16(*sum, _mm256_maddubs_epi16(weights, x));
                }
            }
        };
        add(both.map(|both| _mm256_and_si256(both, low)), line);
        add(both.map(|both| _mm256_and_si256(_mm256_srli_epi16::<4>(both), low)), line + lines);
    }
    for (sums, start) in sums.iter_mut().zip(start) {
        for sum in sums {
            *sum = _mm256_add_epi32(start, _mm256_madd_epi16(*sum, ones));
        }
    }
    sums
}
