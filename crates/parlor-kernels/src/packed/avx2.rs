//! The product on 256-bit registers without an instruction for it: eight outputs at a time, each block's integers in one register a
//! row.
//!
//! `vpmaddubsw` multiplies bytes without a sign by bytes with one and adds two neighbours in 16 bits. Weights of 8 bits give it
//! their magnitudes, and the input their signs: two products are at most 2 * 128 * 127, which 16 bits hold. Weights of 4
//! bits are below 16, and all eight steps of a block (8 * 2 * 15 * 127) fit before they are widened.

use std::arch::x86_64::*;

use super::integers::{Record, Sums, Tile};
use super::{BLOCK, HALVES, LANES, Order, PANEL, STEP};
use crate::isa::{self, Isa};

/// Input rows of a tile, at most.
pub(super) const ROWS: usize = 4;
const STEPS: usize = BLOCK / STEP;
/// Lanes of a register.
const OCTET: usize = 8;

/// Whether the instructions are there.
pub(super) fn here() -> bool {
    isa::allows(Isa::Avx2)
}

/// # Safety
/// [`here`]; the sums are the caller's alone.
pub(super) unsafe fn tile(tile: Tile<'_>, sums: Sums) {
    let rows = sums.rows;
    tile.blocks(rows);
    macro_rules! by_rows {
        ($($rows:literal)*) => {
            match rows {
                // SAFETY: the instruction set is there, the sizes were just checked.
                $($rows => unsafe { blocks_of::<$rows>(tile, sums) },)*
                _ => assert_eq!(rows, 0, "a tile has at most {ROWS} rows"),
            }
        };
    }
    by_rows!(1 2 3 4);
}

/// # Safety
/// AVX2, FMA and F16C are there; `sums` holds `R` rows, `tile` so many blocks of each.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn blocks_of<const R: usize>(tile: Tile<'_>, sums: Sums) {
    // SAFETY: the contract of the caller.
    let sums: [&mut [f32]; R] = std::array::from_fn(|row| unsafe { sums.begin(row) });
    for (index, record) in tile.records().enumerate() {
        for octet in 0..PANEL / OCTET {
            let at = (octet * OCTET / LANES, octet * OCTET % LANES);
            // SAFETY: the contract of the caller.
            unsafe {
                let integers = if tile.order == Order::Nibbles {
                    nibbles::<R>(&tile, index, &record, at)
                } else {
                    bytes::<R>(&tile, index, &record, at)
                };
                let scales = record.scales(at.0)[at.1..at.1 + OCTET].as_ptr();
                let scales = _mm256_cvtph_ps(_mm_loadu_si128(scales.cast()));
                for (r, integers) in integers.into_iter().enumerate() {
                    let scale = _mm256_set1_ps(tile.about[r * tile.stride + index].scale);
                    let sum = sums[r][octet * OCTET..][..OCTET].as_mut_ptr();
                    let total = _mm256_fmadd_ps(
                        _mm256_cvtepi32_ps(integers),
                        _mm256_mul_ps(scales, scale),
                        _mm256_loadu_ps(sum),
                    );
                    _mm256_storeu_ps(sum, total);
                }
            }
        }
    }
}

/// Four bytes of a row's block in every lane.
///
/// # Safety
/// The row has the block.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn four(tile: &Tile<'_>, row: usize, block: usize, step: usize) -> __m256i {
    // SAFETY: a step is four bytes of the block's 32, at any address.
    unsafe {
        let codes = tile.codes.as_ptr().add(row * tile.stride + block).cast::<i32>();
        _mm256_set1_epi32(codes.add(step).read_unaligned())
    }
}

/// A line of eight lanes.
#[inline]
#[target_feature(enable = "avx2")]
fn line(record: &Record<'_>, (half, lane): (usize, usize), line: usize) -> __m256i {
    let own = &record.codes(half, line)[lane * STEP..(lane + OCTET) * STEP];
    // SAFETY: these are 32 bytes.
    unsafe { _mm256_loadu_si256(own.as_ptr().cast()) }
}

/// # Safety
/// As [`blocks_of`].
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn bytes<const R: usize>(
    tile: &Tile<'_>,
    block: usize,
    record: &Record<'_>,
    at: (usize, usize),
) -> [__m256i; R] {
    let (ones, flip) = (_mm256_set1_epi16(1), _mm256_set1_epi8(i8::MIN));
    // The weights have their sign here, so that no offset is to be taken away.
    let mut sums = [_mm256_setzero_si256(); R];
    for step in 0..STEPS {
        let weights = _mm256_xor_si256(line(record, at, step), flip);
        let magnitudes = _mm256_abs_epi8(weights);
        for (r, sum) in sums.iter_mut().enumerate() {
            // SAFETY: the contract of the caller.
            let x = unsafe { four(tile, r, block, step) };
            let twos = _mm256_maddubs_epi16(magnitudes, _mm256_sign_epi8(x, weights));
            *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(twos, ones));
        }
    }
    sums
}

/// # Safety
/// As [`blocks_of`].
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn nibbles<const R: usize>(
    tile: &Tile<'_>,
    block: usize,
    record: &Record<'_>,
    at: (usize, usize),
) -> [__m256i; R] {
    let low = _mm256_set1_epi8(15);
    let mut sums = [_mm256_setzero_si256(); R];
    for index in 0..STEPS / HALVES {
        let both = line(record, at, index);
        let halves = [_mm256_and_si256(both, low), _mm256_and_si256(_mm256_srli_epi16::<4>(both), low)];
        for (weights, step) in halves.into_iter().zip([index, index + STEPS / 2]) {
            for (r, sum) in sums.iter_mut().enumerate() {
                // SAFETY: the contract of the caller.
                let x = unsafe { four(tile, r, block, step) };
                *sum = _mm256_add_epi16(*sum, _mm256_maddubs_epi16(weights, x));
            }
        }
    }
    for (r, sum) in sums.iter_mut().enumerate() {
        let start = _mm256_set1_epi32(tile.start(tile.about[r * tile.stride + block]));
        *sum = _mm256_add_epi32(start, _mm256_madd_epi16(*sum, _mm256_set1_epi16(1)));
    }
    sums
}
