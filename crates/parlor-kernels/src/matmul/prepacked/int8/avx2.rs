//! The int8 kernel with AVX2, which has no instruction for it: the integer sums of a block stay in registers, for up to 4 rows by 16
//! outputs, or 2 by 32.
//!
//! `vpmaddubsw` multiplies unsigned by signed bytes and adds two neighbours in 16 bits. 8-bit weights give it their magnitudes, and the
//! activations their signs: two products are at most 2 * 128 * 127, which fits. 4-bit weights are below 16, and all eight steps of a
//! block (8 * 2 * 15 * 127) fit before they are widened; of 5 bits four steps, of 6 two.

use std::arch::x86_64::*;

use super::prefetch::{PREFETCH_BYTES, prefetch_lines};
use super::q8_block::Q8Block;
use super::tile::{Accumulators, Int8Tile};
use crate::cpu::avx2::{LANES as VECTOR_LANES, broadcast_dword};
use crate::memory::prepacked::layout::{
    BLOCK, LANES, LINE_BYTES, PANEL, PackedLayout, STEP, ScaleKind, StaticLayout, with_layout,
};
use crate::quant::nf4;

/// Activation rows of a tile, at most.
pub(crate) const MR: usize = 4;
const STEPS: usize = BLOCK / STEP;
/// Registers of a panel.
const VECTORS: usize = PANEL / VECTOR_LANES;
/// Bytes of a step's quants.
const STEP_BYTES: usize = STEP * PANEL;

/// # Safety
/// AVX2, FMA and F16C are there; the sums are the caller's alone.
pub(crate) unsafe fn tile(tile: Int8Tile<'_>, sums: Accumulators) {
    // SAFETY: the contract of the caller.
    with_layout!(tile.layout, L => unsafe { by_rows::<L>(tile, sums) });
}

/// # Safety
/// As [`tile`].
unsafe fn by_rows<L: StaticLayout>(tile: Int8Tile<'_>, sums: Accumulators) {
    let blocks = tile.blocks(sums.rows);
    macro_rules! by_rows {
        ($($rows:literal by $vectors:literal),*) => {
            match sums.rows {
                // SAFETY: the instruction set is there, the sizes were just checked.
                $($rows => unsafe { blocks_of::<$rows, $vectors, L>(tile, blocks, sums) },)*
                rows => assert_eq!(rows, 0, "a tile has at most {MR} rows"),
            }
        };
    }
    by_rows!(1 by 4, 2 by 4, 3 by 2, 4 by 2);
}

/// `R` activation rows by `C` vectors of outputs at a time.
///
/// # Safety
/// AVX2, FMA and F16C are there; `sums` holds `R` rows, `tile` so many blocks of each.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn blocks_of<const R: usize, const C: usize, L: StaticLayout>(
    tile: Int8Tile<'_>,
    blocks: usize,
    sums: Accumulators,
) {
    let layout = const { L::LAYOUT };
    let (quants, q8) = (tile.quants.as_ptr(), tile.q8.as_ptr());
    // SAFETY: every address lies in a row, an interleaved block or the sums, as the contract says; a prefetch
    // may miss.
    unsafe {
        for row in 0..R {
            sums.begin(row);
        }
        let mut interleaved: *const u8 = tile.lines.as_ptr().cast();
        let mut own = interleaved;
        for block in 0..blocks {
            if block % layout.blocks() == 0 {
                interleaved = own;
                prefetch_lines(own, layout.header_lines());
                own = own.add(LINE_BYTES * layout.header_lines());
            }
            let q8: [_; R] = std::array::from_fn(|row| &*q8.add(row * tile.stride + block));
            let quants: [*const i32; R] =
                std::array::from_fn(|row| quants.add(row * tile.stride + block).cast());
            prefetch_lines(own, layout.scale_lines());
            let lines = own.add(LINE_BYTES * layout.scale_lines());
            for first in (0..VECTORS).step_by(C) {
                let lines = lines.add(first * VECTOR_LANES * STEP);
                for sub_block in 0..layout.sub_blocks() {
                    let integers = if layout.bits() == 8 {
                        bytes::<R, C, L>(quants, lines, sub_block)
                    } else if layout == PackedLayout::Nf4 {
                        nf4_levels::<R, C>(quants, lines)
                    } else {
                        let start = q8.map(|q8| _mm256_set1_epi32(initial_sum::<L>(q8, sub_block)));
                        nibbles::<R, C, L>(quants, lines, start, sub_block)
                    };
                    for c in 0..C {
                        let lane = (first + c) * VECTOR_LANES;
                        let scales = scales_of::<L>(interleaved, own, lane, sub_block);
                        for (r, (q8, integers)) in q8.iter().zip(&integers).enumerate() {
                            let factor = _mm256_mul_ps(scales, _mm256_set1_ps(q8.scale));
                            let to = sums.to.add(r * sums.stride + lane);
                            let integers = _mm256_cvtepi32_ps(integers[c]);
                            _mm256_storeu_ps(to, _mm256_fmadd_ps(integers, factor, _mm256_loadu_ps(to)));
                        }
                    }
                }
                if layout.has_mins() {
                    for c in 0..C {
                        let lane = (first + c) * VECTOR_LANES;
                        let mins = mins_of::<L>(interleaved, own, lane);
                        for (r, q8) in q8.iter().enumerate() {
                            let less = _mm256_set1_ps(q8.minus_scaled_sum);
                            let to = sums.to.add(r * sums.stride + lane);
                            _mm256_storeu_ps(to, _mm256_fmadd_ps(mins, less, _mm256_loadu_ps(to)));
                        }
                    }
                }
            }
            own = own.add(LINE_BYTES * layout.block_lines());
        }
    }
}

/// The initial value of the sums of a sub-block: the negative contribution of the zero point.
#[inline(always)]
fn initial_sum<L: StaticLayout>(q8: &Q8Block, sub_block: usize) -> i32 {
    L::LAYOUT.zero_point() * q8.minus_sum_of::<L>(sub_block)
}

/// The scales of eight lanes in a sub-block.
///
/// # Safety
/// AVX2 and F16C are there, and the interleaved block, and its block of 32 columns.
#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn scales_of<L: StaticLayout>(
    interleaved: *const u8,
    own: *const u8,
    lane: usize,
    sub_block: usize,
) -> __m256 {
    // SAFETY: the contract of the caller.
    unsafe {
        match L::LAYOUT.scale_kind() {
            ScaleKind::PerBlock | ScaleKind::PerBlockWithMin => f16_line(own, lane),
            ScaleKind::SuperBlock => {
                let own = _mm256_cvtepu8_epi32(_mm_loadl_epi64(own.add(lane).cast()));
                _mm256_mul_ps(f16_line(interleaved, lane), _mm256_cvtepi32_ps(own))
            }
            ScaleKind::SuperBlockOfHalves => {
                let own = _mm256_cvtepi8_epi32(_mm_loadl_epi64(own.add(sub_block * PANEL + lane).cast()));
                _mm256_mul_ps(f16_line(interleaved, lane), _mm256_cvtepi32_ps(own))
            }
            ScaleKind::PerTwoBlocks => {
                let line = interleaved.add(LINE_BYTES * (lane / LANES) * L::LAYOUT.block_lines());
                _mm256_loadu_ps(line.cast::<f32>().add(lane % LANES))
            }
        }
    }
}

/// The minima of eight lanes.
///
/// # Safety
/// As [`scales_of`].
#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn mins_of<L: StaticLayout>(interleaved: *const u8, own: *const u8, lane: usize) -> __m256 {
    // SAFETY: the contract of the caller.
    unsafe {
        if matches!(L::LAYOUT.scale_kind(), ScaleKind::PerBlockWithMin) {
            return f16_line(own.add(LINE_BYTES), lane);
        }
        let own = _mm256_cvtepu8_epi32(_mm_loadl_epi64(own.add(PANEL + lane).cast()));
        _mm256_mul_ps(f16_line(interleaved.add(LINE_BYTES), lane), _mm256_cvtepi32_ps(own))
    }
}

/// Eight f16 of a line, from `lane` on, widened.
///
/// # Safety
/// AVX2 and F16C are there, and the line is.
#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn f16_line(line: *const u8, lane: usize) -> __m256 {
    // SAFETY: the contract of the caller.
    unsafe { _mm256_cvtph_ps(_mm_loadu_si128(line.add(2 * lane).cast())) }
}

/// Loads the next quants of a line and prefetches.
///
/// # Safety
/// AVX2 is there and so many quants are.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn load<const C: usize>(at: *const u8) -> [__m256i; C] {
    std::array::from_fn(|c| {
        // SAFETY: the contract of the caller; a prefetch may miss.
        unsafe {
            let at = at.add(c * VECTOR_LANES * STEP);
            if c % 2 == 0 {
                _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(PREFETCH_BYTES).cast());
            }
            _mm256_loadu_si256(at.cast())
        }
    })
}

/// Adds products of signed bytes.
///
/// # Safety
/// AVX2 is there, and four bytes at each of `quants`.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn add_bytes<const R: usize, const C: usize>(
    sums: &mut [[__m256i; C]; R],
    quants: [*const i32; R],
    weights: [__m256i; C],
) {
    let ones = _mm256_set1_epi16(1);
    let magnitudes = weights.map(|weights| _mm256_abs_epi8(weights));
    for (sums, quants) in sums.iter_mut().zip(quants) {
        // SAFETY: the contract of the caller.
        let x = unsafe { broadcast_dword(quants) };
        for c in 0..C {
            let twos = _mm256_maddubs_epi16(magnitudes[c], _mm256_sign_epi8(x, weights[c]));
            sums[c] = _mm256_add_epi32(sums[c], _mm256_madd_epi16(twos, ones));
        }
    }
}

/// The integer sums of a sub-block of 8-bit quants.
///
/// # Safety
/// AVX2 is there; `quants` are those of a block, `own` is the first of its lines of quants.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn bytes<const R: usize, const C: usize, L: StaticLayout>(
    quants: [*const i32; R],
    own: *const u8,
    sub_block: usize,
) -> [[__m256i; C]; R] {
    // Quants with a zero point of 128 become signed again, so that nothing is subtracted.
    let flip = _mm256_set1_epi8(if L::LAYOUT.zero_point() == 128 { i8::MIN } else { 0 });
    let mut sums = [[_mm256_setzero_si256(); C]; R];
    for step in sub_block * L::STEPS..(sub_block + 1) * L::STEPS {
        // SAFETY: the contract of the caller.
        unsafe {
            let weights =
                load::<C>(own.add(step * STEP_BYTES)).map(|weights| _mm256_xor_si256(weights, flip));
            add_bytes(&mut sums, quants.map(|quants| quants.add(step)), weights);
        }
    }
    sums
}

/// As [`bytes`], of NF4: nibbles that index its levels.
///
/// # Safety
/// As there.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn nf4_levels<const R: usize, const C: usize>(
    quants: [*const i32; R],
    own: *const u8,
) -> [[__m256i; C]; R] {
    let low = _mm256_set1_epi8(15);
    let mut sums = [[_mm256_setzero_si256(); C]; R];
    for line in 0..STEPS / 2 {
        // SAFETY: the contract of the caller; the levels are 16 bytes.
        unsafe {
            let levels = _mm256_broadcastsi128_si256(_mm_loadu_si128(nf4::INT8_CODEBOOK.as_ptr().cast()));
            let both = load::<C>(own.add(line * STEP_BYTES));
            let own = both.map(|both| _mm256_shuffle_epi8(levels, _mm256_and_si256(both, low)));
            add_bytes(&mut sums, quants.map(|quants| quants.add(line)), own);
            let upper = both.map(|both| _mm256_and_si256(_mm256_srli_epi16::<4>(both), low));
            let own = upper.map(|upper| _mm256_shuffle_epi8(levels, upper));
            add_bytes(&mut sums, quants.map(|quants| quants.add(line + STEPS / 2)), own);
        }
    }
    sums
}

/// As [`bytes`], of quants of 4 to 6 bits; `own` is the first line of high bits. Sums begin with `start`.
///
/// # Safety
/// As there.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn nibbles<const R: usize, const C: usize, L: StaticLayout>(
    quants: [*const i32; R],
    own: *const u8,
    start: [__m256i; R],
    sub_block: usize,
) -> [[__m256i; C]; R] {
    let (ones, low) = (_mm256_set1_epi16(1), _mm256_set1_epi8(15));
    let high = const { L::LAYOUT.high_bits() };
    let mask = _mm256_set1_epi8(if high == 1 { 0x10 } else { 0x30 });
    // 16-bit sums hold so many lines: 2 * 15 * 127 for a step of four bits, twice and four times that for five and six.
    let room = const { 4 >> L::LAYOUT.high_bits() };
    let mut sums = start.map(|start| [start; C]);
    let mut bits = [[_mm256_setzero_si256(); C]; 2];
    if high > 0 {
        // SAFETY: the contract of the caller.
        bits = [unsafe { load::<C>(own.add(sub_block * STEP_BYTES)) }; 2];
    }
    let [down, up] = &mut bits;
    for lines in (0..L::LINES).step_by(room) {
        let mut twos = [[_mm256_setzero_si256(); C]; R];
        for line in lines..lines + room {
            let at = high + sub_block * L::LINES + line;
            // SAFETY: the contract of the caller.
            let both = unsafe { load::<C>(own.add(at * STEP_BYTES)) };
            let mut add = |weights: [__m256i; C], step: usize| {
                for (twos, quants) in twos.iter_mut().zip(quants) {
                    // SAFETY: as above; a step is four bytes at any address.
                    let x = unsafe { broadcast_dword(quants.add(step)) };
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
            let step = sub_block * L::STEPS + line;
            add(own, step);
            add(upper, step + L::LINES);
        }
        for (sums, twos) in sums.iter_mut().zip(twos) {
            for (sum, twos) in sums.iter_mut().zip(twos) {
                *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(twos, ones));
            }
        }
    }
    sums
}
