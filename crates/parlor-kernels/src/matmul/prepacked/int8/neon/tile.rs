//! The int8 kernel with the 128-bit registers of aarch64: the integer sums of up to 4 rows by 16 outputs stay in 16 of them.
//!
//! Three variants: `smmla` (i8mm) multiplies two rows by two lanes over eight columns, `sdot` (dotprod) four lanes by four columns of one
//! row, and where there is neither, four instructions replace `sdot`. All take signed bytes: 8-bit weights are made signed again, and
//! those of fewer bits are below 64.

use std::arch::aarch64::*;
use std::arch::asm;

use super::multiply::{Dots, Matrices, Multiply, Plain};
use super::registers::{Integers, QUAD, QUADS};
use super::scales::{mins_of, scales_of};
use crate::matmul::prepacked::int8::q8_block::Q8Block;
use crate::matmul::prepacked::int8::tile::{Accumulators, Int8Tile};
use crate::memory::prepacked::layout::{HALVES, LANES, LINE_BYTES, PackedLayout, StaticLayout, with_layout};
use crate::quant::nf4;

/// Activation rows of a tile, at most.
pub(crate) const MR: usize = 4;
/// With what every processor of the architecture has.
///
/// # Safety
/// The sums are the caller's alone.
pub(crate) unsafe fn tile_plain(tile: Int8Tile<'_>, sums: Accumulators) {
    // SAFETY: the contract of the caller.
    unsafe { tile_by::<Plain>(tile, sums) };
}

/// With `sdot`.
///
/// # Safety
/// It is there; the sums are the caller's alone.
pub(crate) unsafe fn tile_dots(tile: Int8Tile<'_>, sums: Accumulators) {
    // SAFETY: the contract of the caller.
    unsafe { tile_by::<Dots>(tile, sums) };
}

/// With `smmla` and `sdot`.
///
/// # Safety
/// They are there; the sums are the caller's alone.
pub(crate) unsafe fn tile_matrices(tile: Int8Tile<'_>, sums: Accumulators) {
    // SAFETY: the contract of the caller.
    unsafe { tile_by::<Matrices>(tile, sums) };
}

/// # Safety
/// The instructions of `M` are there, and those of [`Dots`] where it computes rows in pairs; the sums are the caller's alone.
unsafe fn tile_by<M: Multiply>(tile: Int8Tile<'_>, sums: Accumulators) {
    tile.blocks(sums.rows);
    let paired = sums.rows - sums.rows % M::TOGETHER;
    let rest =
        Accumulators { to: sums.to.wrapping_add(paired * sums.stride), rows: sums.rows - paired, ..sums };
    // SAFETY: the contract of the caller; the rows have their blocks, as was just checked.
    unsafe {
        match paired {
            0 => {}
            1 => with_layout!(tile.layout, L => blocks_of::<1, M, L>(tile, sums)),
            2 => with_layout!(tile.layout, L => blocks_of::<2, M, L>(tile, sums)),
            3 => with_layout!(tile.layout, L => blocks_of::<3, M, L>(tile, sums)),
            rows => {
                assert_eq!(rows, MR, "a tile has at most {MR} rows");
                with_layout!(tile.layout, L => blocks_of::<MR, M, L>(tile, sums));
            }
        }
        if rest.rows > 0 {
            let at = paired * tile.stride;
            let tile = Int8Tile { quants: &tile.quants[at..], q8: &tile.q8[at..], ..tile };
            with_layout!(tile.layout, L => blocks_of::<1, Dots, L>(tile, rest));
        }
    }
}

/// # Safety
/// The instructions of `M` are there; `sums` holds `R` rows, `tile` so many blocks of each.
unsafe fn blocks_of<const R: usize, M: Multiply, L: StaticLayout>(tile: Int8Tile<'_>, sums: Accumulators) {
    let layout = const { L::LAYOUT };
    let blocks = tile.lines.len() / layout.lines() * layout.blocks();
    let (quants, q8) = (tile.quants.as_ptr(), tile.q8.as_ptr());
    // SAFETY: every address lies in a row, an interleaved block or the sums, as the contract says.
    unsafe {
        for row in 0..R {
            sums.begin(row);
            for lane in [0, LANES] {
                // What is asked for need not be there.
                asm!(
                    "prfm pstl1keep, [{prefetch}]",
                    prefetch = in(reg) sums.prefetch.0.wrapping_add(row * sums.prefetch.1 + lane),
                    options(nostack, preserves_flags),
                );
            }
        }
        let mut interleaved: *const u8 = tile.lines.as_ptr().cast();
        let mut own = interleaved;
        for block in 0..blocks {
            if block % layout.blocks() == 0 {
                interleaved = own;
                own = own.add(LINE_BYTES * layout.header_lines());
            }
            let q8: [&Q8Block; R] = std::array::from_fn(|row| &*q8.add(row * tile.stride + block));
            let quants: [*const i8; R] =
                std::array::from_fn(|row| quants.add(row * tile.stride + block).cast());
            let first = own.add(LINE_BYTES * layout.scale_lines());
            for half in 0..HALVES {
                let lanes = half * LANES;
                for sub_block in 0..layout.sub_blocks() {
                    let integers = fold_of::<R, M, L>(quants, first.add(LINE_BYTES * half), sub_block);
                    let scales = scales_of::<L>(interleaved, own, half, sub_block);
                    for (row, q8) in q8.iter().enumerate() {
                        let to = sums.to.add(row * sums.stride + lanes);
                        let start = vdupq_n_s32(initial_sum::<L>(q8, sub_block));
                        for quad in 0..QUADS {
                            let integers = vaddq_s32(integers[row][quad], start);
                            let factor = vmulq_n_f32(scales[quad], q8.scale);
                            let to = to.add(quad * QUAD);
                            vst1q_f32(to, vfmaq_f32(vld1q_f32(to), vcvtq_f32_s32(integers), factor));
                        }
                    }
                }
                if layout.has_mins() {
                    let mins = mins_of::<L>(interleaved, own, half);
                    for (row, q8) in q8.iter().enumerate() {
                        let to = sums.to.add(row * sums.stride + lanes);
                        for (quad, min) in mins.into_iter().enumerate() {
                            let to = to.add(quad * QUAD);
                            vst1q_f32(to, vfmaq_n_f32(vld1q_f32(to), min, q8.minus_scaled_sum));
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
    // 8-bit quants are made signed again.
    let zero = if L::LAYOUT.zero_point() == 128 { 0 } else { L::LAYOUT.zero_point() };
    zero * q8.minus_sum_of::<L>(sub_block)
}

/// The integer sums of a sub-block of half a panel; `own` is its first line of high bits.
///
/// # Safety
/// The instructions of `M` are there, and the lines, and a block at each of `quants`.
#[inline(always)]
unsafe fn fold_of<const R: usize, M: Multiply, L: StaticLayout>(
    quants: [*const i8; R],
    own: *const u8,
    sub_block: usize,
) -> [Integers; R] {
    let (layout, next) = (const { L::LAYOUT }, HALVES * LINE_BYTES);
    // SAFETY: the contract of the caller.
    unsafe {
        let mut sums = [[vdupq_n_s32(0); QUADS]; R];
        let mut down = [vdupq_n_u8(0); QUADS];
        if layout.high_bits() > 0 {
            down = load(own.add(next * sub_block));
        }
        let mut up = down;
        for pair in (0..L::LINES).step_by(2) {
            let at = layout.high_bits() + sub_block * L::LINES + pair;
            let lines = [0, 1].map(|line| load(own.add(next * (at + line))));
            let step = pair + sub_block * L::STEPS;
            let at = |step: usize| quants.map(|quants| quants.add(step * QUAD));
            if layout.bits() == 8 {
                let flip = vdupq_n_u8(if L::LAYOUT.zero_point() == 128 { 0x80 } else { 0 });
                let weights = lines.map(|line| line.map(|own| vreinterpretq_s8_u8(veorq_u8(own, flip))));
                M::add(&mut sums, weights, at(step));
                continue;
            }
            let mut lower = lines.map(|line| line.map(|own| vandq_u8(own, vdupq_n_u8(15))));
            let mut upper = lines.map(|line| line.map(|own| vshrq_n_u8::<4>(own)));
            for (lower, upper) in lower.iter_mut().zip(&mut upper) {
                for quad in 0..if layout.high_bits() > 0 { QUADS } else { 0 } {
                    let mask = vdupq_n_u8(if layout.high_bits() == 1 { 0x10 } else { 0x30 });
                    lower[quad] = vorrq_u8(lower[quad], vandq_u8(down[quad], mask));
                    (down[quad], up[quad]) = if layout.high_bits() == 1 {
                        (vshrq_n_u8::<1>(down[quad]), vshlq_n_u8::<1>(up[quad]))
                    } else {
                        (vshrq_n_u8::<2>(down[quad]), vshlq_n_u8::<2>(up[quad]))
                    };
                    upper[quad] = vorrq_u8(upper[quad], vandq_u8(up[quad], mask));
                }
            }
            let signed = |weights: [[uint8x16_t; QUADS]; 2]| {
                weights.map(|weights| {
                    weights.map(|own| match L::LAYOUT {
                        PackedLayout::Nf4 => vqtbl1q_s8(vld1q_s8(nf4::INT8_CODEBOOK.as_ptr()), own),
                        _ => vreinterpretq_s8_u8(own),
                    })
                })
            };
            M::add(&mut sums, signed(lower), at(step));
            M::add(&mut sums, signed(upper), at(step + L::LINES));
        }
        M::done(sums)
    }
}

/// # Safety
/// A line is there.
#[inline(always)]
unsafe fn load(line: *const u8) -> [uint8x16_t; QUADS] {
    // SAFETY: the contract of the caller.
    [0, 16, 32, 48].map(|at| unsafe { vld1q_u8(line.add(at)) })
}
