//! The product on the 128-bit registers of aarch64: the integers of up to 4 rows by 16 outputs stay in 16 of them, and a block's
//! weights pass by. A line of a panel is four registers of four lanes, four columns each.
//!
//! Three ways: `smmla` (i8mm) multiplies two rows by two lanes over eight columns, `sdot` (dotprod) four lanes by four columns of
//! one row, and where there is neither, four instructions do what `sdot` does. All of them take bytes with a sign: weights of
//! 8 bits have theirs here, and those of fewer are below 64 as they are.

mod multiply;
mod scales;

use std::arch::aarch64::*;
use std::arch::asm;

use super::inputs::BlockOf;
use super::integers::{Sums, Tile};
use super::order::{Kind, Order, by_kind, kinds};
use super::{HALVES, LANES, LINE};
use crate::quant::nf4;
use multiply::{Dots, Matrices, Multiply, Plain};
use scales::{offsets_of, scales_of};

/// Input rows of a tile, at most.
pub(super) const ROWS: usize = 4;
/// Lanes of a register, and registers of a line.
const QUAD: usize = 4;
const QUADS: usize = LANES / QUAD;

/// A line: 16 lanes by four columns.
type Weights = [int8x16_t; QUADS];
/// Sums of a row's 16 lanes; as [`Matrices`] has them, those of two rows lie together until they are done.
type Integers = [int32x4_t; QUADS];

/// With what every processor of the architecture has.
///
/// # Safety
/// The sums are the caller's alone.
pub(super) unsafe fn tile_plain(tile: Tile<'_>, sums: Sums) {
    // SAFETY: the contract of the caller.
    unsafe { tile_by::<Plain>(tile, sums) };
}

/// With `sdot`.
///
/// # Safety
/// It is there; the sums are the caller's alone.
pub(super) unsafe fn tile_dots(tile: Tile<'_>, sums: Sums) {
    // SAFETY: the contract of the caller.
    unsafe { tile_by::<Dots>(tile, sums) };
}

/// With `smmla` and `sdot`.
///
/// # Safety
/// They are there; the sums are the caller's alone.
pub(super) unsafe fn tile_matrices(tile: Tile<'_>, sums: Sums) {
    // SAFETY: the contract of the caller.
    unsafe { tile_by::<Matrices>(tile, sums) };
}

/// # Safety
/// The instructions of `M` are there, and those of [`Dots`] where it computes rows in pairs; the sums are the caller's alone.
unsafe fn tile_by<M: Multiply>(tile: Tile<'_>, sums: Sums) {
    tile.blocks(sums.rows);
    let paired = sums.rows - sums.rows % M::TOGETHER;
    let rest = Sums { to: sums.to.wrapping_add(paired * sums.stride), rows: sums.rows - paired, ..sums };
    // SAFETY: the contract of the caller; the rows have their blocks, as was just checked.
    unsafe {
        match paired {
            0 => {}
            1 => by_kind!(tile.order, K => blocks_of::<1, M, K>(tile, sums)),
            2 => by_kind!(tile.order, K => blocks_of::<2, M, K>(tile, sums)),
            3 => by_kind!(tile.order, K => blocks_of::<3, M, K>(tile, sums)),
            rows => {
                assert_eq!(rows, ROWS, "a tile has at most {ROWS} rows");
                by_kind!(tile.order, K => blocks_of::<ROWS, M, K>(tile, sums));
            }
        }
        if rest.rows > 0 {
            let at = paired * tile.stride;
            let tile = Tile { codes: &tile.codes[at..], about: &tile.about[at..], ..tile };
            by_kind!(tile.order, K => blocks_of::<1, Dots, K>(tile, rest));
        }
    }
}

/// # Safety
/// The instructions of `M` are there; `sums` holds `R` rows, `tile` so many blocks of each.
unsafe fn blocks_of<const R: usize, M: Multiply, K: Kind>(tile: Tile<'_>, sums: Sums) {
    let order = const { K::ORDER };
    let blocks = tile.lines.len() / order.lines() * order.blocks();
    let (codes, about) = (tile.codes.as_ptr(), tile.about.as_ptr());
    // SAFETY: every address lies in a row, a record or the sums, as the contract says.
    unsafe {
        for row in 0..R {
            sums.begin(row);
            for lane in [0, LANES] {
                // What is asked for need not be there.
                asm!(
                    "prfm pstl1keep, [{soon}]",
                    soon = in(reg) sums.soon.0.wrapping_add(row * sums.soon.1 + lane),
                    options(nostack, preserves_flags),
                );
            }
        }
        let mut record: *const u8 = tile.lines.as_ptr().cast();
        let mut own = record;
        for block in 0..blocks {
            if block % order.blocks() == 0 {
                record = own;
                own = own.add(LINE * order.head());
            }
            let about: [&BlockOf; R] = std::array::from_fn(|row| &*about.add(row * tile.stride + block));
            let codes: [*const i8; R] =
                std::array::from_fn(|row| codes.add(row * tile.stride + block).cast());
            let first = own.add(LINE * order.scale_lines());
            for half in 0..HALVES {
                let lanes = half * LANES;
                for fold in 0..order.folds() {
                    let integers = fold_of::<R, M, K>(codes, first.add(LINE * half), fold);
                    let scales = scales_of::<K>(record, own, half, fold);
                    for (row, about) in about.iter().enumerate() {
                        let to = sums.to.add(row * sums.stride + lanes);
                        let start = vdupq_n_s32(start::<K>(about, fold));
                        for quad in 0..QUADS {
                            let integers = vaddq_s32(integers[row][quad], start);
                            let factor = vmulq_n_f32(scales[quad], about.scale);
                            let to = to.add(quad * QUAD);
                            vst1q_f32(to, vfmaq_f32(vld1q_f32(to), vcvtq_f32_s32(integers), factor));
                        }
                    }
                }
                if order.has_offsets() {
                    let offsets = offsets_of::<K>(record, own, half);
                    for (row, about) in about.iter().enumerate() {
                        let to = sums.to.add(row * sums.stride + lanes);
                        for (quad, offset) in offsets.into_iter().enumerate() {
                            let to = to.add(quad * QUAD);
                            vst1q_f32(to, vfmaq_n_f32(vld1q_f32(to), offset, about.minus_total));
                        }
                    }
                }
            }
            own = own.add(LINE * order.block_lines());
        }
    }
}

/// What a weight's offset takes from the sums of a fold.
#[inline(always)]
fn start<K: Kind>(about: &BlockOf, fold: usize) -> i32 {
    // Bytes have their sign here.
    let zero = if K::ORDER.zero() == 128 { 0 } else { K::ORDER.zero() };
    zero * about.minus_sum_of::<K>(fold)
}

/// The sums of a fold's products of half a panel, whose lines of high bits and codes begin at `own`.
///
/// # Safety
/// The instructions of `M` are there, and the lines, and a block at each of `codes`.
#[inline(always)]
unsafe fn fold_of<const R: usize, M: Multiply, K: Kind>(
    codes: [*const i8; R],
    own: *const u8,
    fold: usize,
) -> [Integers; R] {
    let (order, next) = (const { K::ORDER }, HALVES * LINE);
    // SAFETY: the contract of the caller.
    unsafe {
        let mut sums = [[vdupq_n_s32(0); QUADS]; R];
        let mut down = [vdupq_n_u8(0); QUADS];
        if order.high() > 0 {
            down = load(own.add(next * fold));
        }
        let mut up = down;
        for pair in (0..K::LINES).step_by(2) {
            let at = order.high() + fold * K::LINES + pair;
            let lines = [0, 1].map(|line| load(own.add(next * (at + line))));
            let step = pair + fold * K::STEPS;
            let at = |step: usize| codes.map(|codes| codes.add(step * QUAD));
            if order.bits() == 8 {
                let flip = vdupq_n_u8(if K::ORDER.zero() == 128 { 0x80 } else { 0 });
                let weights = lines.map(|line| line.map(|own| vreinterpretq_s8_u8(veorq_u8(own, flip))));
                M::add(&mut sums, weights, at(step));
                continue;
            }
            let mut lower = lines.map(|line| line.map(|own| vandq_u8(own, vdupq_n_u8(15))));
            let mut upper = lines.map(|line| line.map(|own| vshrq_n_u8::<4>(own)));
            for (lower, upper) in lower.iter_mut().zip(&mut upper) {
                for quad in 0..if order.high() > 0 { QUADS } else { 0 } {
                    let mask = vdupq_n_u8(if order.high() == 1 { 0x10 } else { 0x30 });
                    lower[quad] = vorrq_u8(lower[quad], vandq_u8(down[quad], mask));
                    (down[quad], up[quad]) = if order.high() == 1 {
                        (vshrq_n_u8::<1>(down[quad]), vshlq_n_u8::<1>(up[quad]))
                    } else {
                        (vshrq_n_u8::<2>(down[quad]), vshlq_n_u8::<2>(up[quad]))
                    };
                    upper[quad] = vorrq_u8(upper[quad], vandq_u8(up[quad], mask));
                }
            }
            let signed = |weights: [[uint8x16_t; QUADS]; 2]| {
                weights.map(|weights| {
                    weights.map(|own| match K::ORDER {
                        Order::Nf4 => vqtbl1q_s8(vld1q_s8(nf4::INT8_CODEBOOK.as_ptr()), own),
                        _ => vreinterpretq_s8_u8(own),
                    })
                })
            };
            M::add(&mut sums, signed(lower), at(step));
            M::add(&mut sums, signed(upper), at(step + K::LINES));
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
