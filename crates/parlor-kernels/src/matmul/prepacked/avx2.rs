//! The product on 256-bit registers without an instruction for it: the integers of a block stay in registers, for up to 4 rows by
//! 16 outputs, or 2 by 32, and a block's weights pass by.
//!
//! `vpmaddubsw` multiplies bytes without a sign by bytes with one and adds two neighbours in 16 bits. Weights of 8 bits give it
//! their magnitudes, and the input their signs: two products are at most 2 * 128 * 127, which 16 bits hold. Weights of 4
//! bits are below 16, and all eight steps of a block (8 * 2 * 15 * 127) fit before they are widened; of 5 bits four, of 6 two.

use std::arch::x86_64::*;

use super::inputs::BlockOf;
use super::integers::{Sums, Tile};
use super::order::{Kind, Order, Scaling, by_kind, kinds};
use super::{BLOCK, LANES, LINE, PANEL, STEP};
use crate::cpu::isa::{self, Isa};
use crate::quant::nf4;

/// Input rows of a tile, at most.
pub(super) const ROWS: usize = 4;
const STEPS: usize = BLOCK / STEP;
/// Lanes of a register, and registers of a panel.
const OCTET: usize = 8;
const OCTETS: usize = PANEL / OCTET;
/// Bytes of a step's codes.
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
    // SAFETY: the contract of the caller.
    by_kind!(tile.order, K => unsafe { by_rows::<K>(tile, sums) });
}

/// # Safety
/// As [`tile`].
unsafe fn by_rows<K: Kind>(tile: Tile<'_>, sums: Sums) {
    let blocks = tile.blocks(sums.rows);
    macro_rules! by_rows {
        ($($rows:literal by $octets:literal),*) => {
            match sums.rows {
                // SAFETY: the instruction set is there, the sizes were just checked.
                $($rows => unsafe { blocks_of::<$rows, $octets, K>(tile, blocks, sums) },)*
                rows => assert_eq!(rows, 0, "a tile has at most {ROWS} rows"),
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
unsafe fn blocks_of<const R: usize, const C: usize, K: Kind>(tile: Tile<'_>, blocks: usize, sums: Sums) {
    let order = const { K::ORDER };
    let (codes, about) = (tile.codes.as_ptr(), tile.about.as_ptr());
    // SAFETY: every address lies in a row, a record or the sums, as the contract says; what is asked for
    // ahead need not be there.
    unsafe {
        for row in 0..R {
            sums.begin(row);
        }
        let mut record: *const u8 = tile.lines.as_ptr().cast();
        let mut own = record;
        for block in 0..blocks {
            if block % order.blocks() == 0 {
                record = own;
                ask_for(own, order.head());
                own = own.add(LINE * order.head());
            }
            let about: [_; R] = std::array::from_fn(|row| &*about.add(row * tile.stride + block));
            let codes: [*const i32; R] =
                std::array::from_fn(|row| codes.add(row * tile.stride + block).cast());
            ask_for(own, order.scale_lines());
            let lines = own.add(LINE * order.scale_lines());
            for first in (0..OCTETS).step_by(C) {
                let lines = lines.add(first * OCTET * STEP);
                for fold in 0..order.folds() {
                    let integers = if order.bits() == 8 {
                        bytes::<R, C, K>(codes, lines, fold)
                    } else if order == Order::Nf4 {
                        looked_up::<R, C>(codes, lines)
                    } else {
                        let start = about.map(|about| _mm256_set1_epi32(start::<K>(about, fold)));
                        nibbles::<R, C, K>(codes, lines, start, fold)
                    };
                    for c in 0..C {
                        let octet = (first + c) * OCTET;
                        let scales = scales_of::<K>(record, own, octet, fold);
                        for (r, (about, integers)) in about.iter().zip(&integers).enumerate() {
                            let factor = _mm256_mul_ps(scales, _mm256_set1_ps(about.scale));
                            let to = sums.to.add(r * sums.stride + octet);
                            let integers = _mm256_cvtepi32_ps(integers[c]);
                            _mm256_storeu_ps(to, _mm256_fmadd_ps(integers, factor, _mm256_loadu_ps(to)));
                        }
                    }
                }
                if order.has_offsets() {
                    for c in 0..C {
                        let octet = (first + c) * OCTET;
                        let offsets = offsets_of::<K>(record, own, octet);
                        for (r, about) in about.iter().enumerate() {
                            let less = _mm256_set1_ps(about.minus_total);
                            let to = sums.to.add(r * sums.stride + octet);
                            _mm256_storeu_ps(to, _mm256_fmadd_ps(offsets, less, _mm256_loadu_ps(to)));
                        }
                    }
                }
            }
            own = own.add(LINE * order.block_lines());
        }
    }
}

/// Asks for the lines so far ahead of some.
#[inline(always)]
pub(super) fn ask_for(lines: *const u8, count: usize) {
    for line in 0..count {
        // SAFETY: what is asked for need not be there.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(lines.wrapping_add(AHEAD + LINE * line).cast()) };
    }
}

/// Where sums of a fold begin: with what a weight's offset takes from them.
#[inline(always)]
fn start<K: Kind>(about: &BlockOf, fold: usize) -> i32 {
    K::ORDER.zero() * about.minus_sum_of::<K>(fold)
}

/// What the sums of a fold of eight lanes are multiplied by.
///
/// # Safety
/// AVX2 and F16C are there, and the record and its block.
#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn scales_of<K: Kind>(record: *const u8, own: *const u8, octet: usize, fold: usize) -> __m256 {
    // SAFETY: the contract of the caller.
    unsafe {
        match K::ORDER.scaling() {
            Scaling::One | Scaling::Two => halves(own, octet),
            Scaling::Groups => {
                let own = _mm256_cvtepu8_epi32(_mm_loadl_epi64(own.add(octet).cast()));
                _mm256_mul_ps(halves(record, octet), _mm256_cvtepi32_ps(own))
            }
            Scaling::Halves => {
                let own = _mm256_cvtepi8_epi32(_mm_loadl_epi64(own.add(fold * PANEL + octet).cast()));
                _mm256_mul_ps(halves(record, octet), _mm256_cvtepi32_ps(own))
            }
            Scaling::Wide => {
                let line = record.add(LINE * (octet / LANES) * K::ORDER.block_lines());
                _mm256_loadu_ps(line.cast::<f32>().add(octet % LANES))
            }
        }
    }
}

/// What is taken from each column of eight lanes.
///
/// # Safety
/// As [`scales_of`].
#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn offsets_of<K: Kind>(record: *const u8, own: *const u8, octet: usize) -> __m256 {
    // SAFETY: the contract of the caller.
    unsafe {
        if matches!(K::ORDER.scaling(), Scaling::Two) {
            return halves(own.add(LINE), octet);
        }
        let own = _mm256_cvtepu8_epi32(_mm_loadl_epi64(own.add(PANEL + octet).cast()));
        _mm256_mul_ps(halves(record.add(LINE), octet), _mm256_cvtepi32_ps(own))
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

/// Sums of products of bytes with a sign.
///
/// # Safety
/// AVX2 is there, and four bytes at each of `codes`.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn add_bytes<const R: usize, const C: usize>(
    sums: &mut [[__m256i; C]; R],
    codes: [*const i32; R],
    weights: [__m256i; C],
) {
    let ones = _mm256_set1_epi16(1);
    let magnitudes = weights.map(|weights| _mm256_abs_epi8(weights));
    for (sums, codes) in sums.iter_mut().zip(codes) {
        // SAFETY: the contract of the caller.
        let x = unsafe { broadcast(codes) };
        for c in 0..C {
            let twos = _mm256_maddubs_epi16(magnitudes[c], _mm256_sign_epi8(x, weights[c]));
            sums[c] = _mm256_add_epi32(sums[c], _mm256_madd_epi16(twos, ones));
        }
    }
}

/// Those of a fold of bytes, a step a line.
///
/// # Safety
/// AVX2 is there; `codes` are those of a block, `own` the first of its lines of codes.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn bytes<const R: usize, const C: usize, K: Kind>(
    codes: [*const i32; R],
    own: *const u8,
    fold: usize,
) -> [[__m256i; C]; R] {
    // What has a sign has it here, so that no offset is to be taken away.
    let flip = _mm256_set1_epi8(if K::ORDER.zero() == 128 { i8::MIN } else { 0 });
    let mut sums = [[_mm256_setzero_si256(); C]; R];
    for step in fold * K::STEPS..(fold + 1) * K::STEPS {
        // SAFETY: the contract of the caller.
        unsafe {
            let weights = load::<C>(own.add(step * CODES)).map(|weights| _mm256_xor_si256(weights, flip));
            add_bytes(&mut sums, codes.map(|codes| codes.add(step)), weights);
        }
    }
    sums
}

/// As [`bytes`], of lines of two steps each, the second one as many steps later, in the levels of NF4.
///
/// # Safety
/// As there.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn looked_up<const R: usize, const C: usize>(
    codes: [*const i32; R],
    own: *const u8,
) -> [[__m256i; C]; R] {
    let low = _mm256_set1_epi8(15);
    let mut sums = [[_mm256_setzero_si256(); C]; R];
    for line in 0..STEPS / 2 {
        // SAFETY: the contract of the caller; the levels are 16 bytes.
        unsafe {
            let levels = _mm256_broadcastsi128_si256(_mm_loadu_si128(nf4::INT8_CODEBOOK.as_ptr().cast()));
            let both = load::<C>(own.add(line * CODES));
            let own = both.map(|both| _mm256_shuffle_epi8(levels, _mm256_and_si256(both, low)));
            add_bytes(&mut sums, codes.map(|codes| codes.add(line)), own);
            let upper = both.map(|both| _mm256_and_si256(_mm256_srli_epi16::<4>(both), low));
            let own = upper.map(|upper| _mm256_shuffle_epi8(levels, upper));
            add_bytes(&mut sums, codes.map(|codes| codes.add(line + STEPS / 2)), own);
        }
    }
    sums
}

/// As [`looked_up`], of a fold of levels of up to six bits, whose lines begin with those of the high bits; sums begin with `start`.
///
/// # Safety
/// As there.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn nibbles<const R: usize, const C: usize, K: Kind>(
    codes: [*const i32; R],
    own: *const u8,
    start: [__m256i; R],
    fold: usize,
) -> [[__m256i; C]; R] {
    let (ones, low) = (_mm256_set1_epi16(1), _mm256_set1_epi8(15));
    let high = const { K::ORDER.high() };
    let mask = _mm256_set1_epi8(if high == 1 { 0x10 } else { 0x30 });
    // Sums of 16 bits hold so many lines: 2 * 15 * 127 a step of four bits, twice and four times that of more.
    let room = const { 4 >> K::ORDER.high() };
    let mut sums = start.map(|start| [start; C]);
    let mut bits = [[_mm256_setzero_si256(); C]; 2];
    if high > 0 {
        // SAFETY: the contract of the caller.
        bits = [unsafe { load::<C>(own.add(fold * CODES)) }; 2];
    }
    let [down, up] = &mut bits;
    for lines in (0..K::LINES).step_by(room) {
        let mut twos = [[_mm256_setzero_si256(); C]; R];
        for line in lines..lines + room {
            let at = high + fold * K::LINES + line;
            // SAFETY: the contract of the caller.
            let both = unsafe { load::<C>(own.add(at * CODES)) };
            let mut add = |weights: [__m256i; C], step: usize| {
                for (twos, codes) in twos.iter_mut().zip(codes) {
                    // SAFETY: as above; a step is four bytes at any address.
                    let x = unsafe { broadcast(codes.add(step)) };
                    for (two, weights) in twos.iter_mut().zip(weights) {
                        *two = _mm256_add_epi16(*two, _mm256_maddubs_epi16(weights, x));
                    }
                }
            };
            let mut own = both.map(|both| _mm256_and_si256(both, low));
            let mut upper = both.map(|both| _mm256_and_si256(_mm256_srli_epi16::<4>(both), low));
            for c in 0..if high > 0 { C } else { 0 } {
                own[c] = _mm256_or_si256(own[c], _mm256_and_si256(down[c], mask));
                (down[c], up[c]) = if high == 1 {
                    (_mm256_srli_epi16::<1>(down[c]), _mm256_slli_epi16::<1>(up[c]))
                } else {
                    (_mm256_srli_epi16::<2>(down[c]), _mm256_slli_epi16::<2>(up[c]))
                };
                upper[c] = _mm256_or_si256(upper[c], _mm256_and_si256(up[c], mask));
            }
            let step = fold * K::STEPS + line;
            add(own, step);
            add(upper, step + K::LINES);
        }
        for (sums, twos) in sums.iter_mut().zip(twos) {
            for (sum, twos) in sums.iter_mut().zip(twos) {
                *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(twos, ones));
            }
        }
    }
    sums
}
