//! The product on the 128-bit registers of aarch64: the integers of up to 4 rows by 16 outputs stay in 16 of them, and a block's
//! weights pass by. A line of a panel is four registers of four lanes, four columns each.
//!
//! Three ways: `smmla` (i8mm) multiplies two rows by two lanes over eight columns, `sdot` (dotprod) four lanes by four columns of
//! one row, and where there is neither, four instructions do what `sdot` does. All of them take bytes with a sign: weights of
//! 8 bits have theirs here, and those of fewer are below 64 as they are.
//!
//! Written out because the standard library's names for these instructions are not stable yet.

use std::arch::aarch64::*;
use std::arch::asm;

use super::inputs::BlockOf;
use super::integers::{Sums, Tile};
use super::order::{Kind, Order, Scaling, by_kind, kinds};
use super::{HALVES, LANES, PANEL};
use crate::blocks::nf4;

/// Input rows of a tile, at most.
pub(super) const ROWS: usize = 4;
/// Bytes of a line; lanes of a register, and registers of a line.
const LINE: usize = 64;
const QUAD: usize = 4;
const QUADS: usize = LANES / QUAD;

/// A line: 16 lanes by four columns.
type Weights = [int8x16_t; QUADS];
/// Sums of a row's 16 lanes; as [`Matrices`] has them, those of two rows lie together until they are done.
type Integers = [int32x4_t; QUADS];

/// How four lanes meet inputs.
trait Multiply {
    /// Rows that are computed together.
    const TOGETHER: usize;

    /// Adds the products of two steps, one after the other in the inputs at `codes`.
    ///
    /// # Safety
    /// The instructions are there, and eight bytes at each of `codes`.
    unsafe fn add<const R: usize>(sums: &mut [Integers; R], weights: [Weights; 2], codes: [*const i8; R]);

    /// The sums of rows.
    fn done<const R: usize>(sums: [Integers; R]) -> [Integers; R] {
        sums
    }
}

/// With what every processor of the architecture has.
struct Plain;
/// With `sdot`.
struct Dots;
/// With `smmla`.
struct Matrices;

impl Multiply for Plain {
    const TOGETHER: usize = 1;

    #[inline(always)]
    unsafe fn add<const R: usize>(sums: &mut [Integers; R], weights: [Weights; 2], codes: [*const i8; R]) {
        for (step, weights) in weights.into_iter().enumerate() {
            for (sums, codes) in sums.iter_mut().zip(codes) {
                // SAFETY: the contract of the caller. No sum of two products overflows: a code is -127 to 127.
                unsafe {
                    let x = four(codes, step);
                    for (sum, weights) in sums.iter_mut().zip(weights) {
                        let low = vmull_s8(vget_low_s8(weights), vget_low_s8(x));
                        let twos = vpaddq_s16(low, vmull_high_s8(weights, x));
                        *sum = vpadalq_s16(*sum, twos);
                    }
                }
            }
        }
    }
}

impl Multiply for Dots {
    const TOGETHER: usize = 1;

    #[inline(always)]
    unsafe fn add<const R: usize>(sums: &mut [Integers; R], weights: [Weights; 2], codes: [*const i8; R]) {
        for (step, weights) in weights.into_iter().enumerate() {
            for (sums, codes) in sums.iter_mut().zip(codes) {
                // SAFETY: the contract of the caller; the instruction reads and writes the registers it is given.
                unsafe {
                    let x = four(codes, step);
                    for (sum, weights) in sums.iter_mut().zip(weights) {
                        asm!(
                            ".arch_extension dotprod",
                            "sdot {sum:v}.4s, {weights:v}.16b, {x:v}.16b",
                            sum = inout(vreg) *sum,
                            weights = in(vreg) weights,
                            x = in(vreg) x,
                            options(pure, nomem, nostack, preserves_flags),
                        );
                    }
                }
            }
        }
    }
}

impl Multiply for Matrices {
    const TOGETHER: usize = 2;

    #[inline(always)]
    unsafe fn add<const R: usize>(sums: &mut [Integers; R], weights: [Weights; 2], codes: [*const i8; R]) {
        let [first, second] = weights;
        for quad in 0..QUADS {
            // SAFETY: the contract of the caller; the instruction reads and writes the registers it is given.
            unsafe {
                // Eight columns of lanes 0 and 1, and of 2 and 3.
                let (a, b) = (vreinterpretq_s32_s8(first[quad]), vreinterpretq_s32_s8(second[quad]));
                let lanes = [vzip1q_s32(a, b), vzip2q_s32(a, b)];
                for (sums, codes) in sums.chunks_exact_mut(2).zip(codes.chunks_exact(2)) {
                    let x = vcombine_s8(vld1_s8(codes[0]), vld1_s8(codes[1]));
                    for (sums, lanes) in sums.iter_mut().zip(lanes) {
                        asm!(
                            ".arch_extension i8mm",
                            "smmla {sum:v}.4s, {x:v}.16b, {lanes:v}.16b",
                            sum = inout(vreg) sums[quad],
                            lanes = in(vreg) lanes,
                            x = in(vreg) x,
                            options(pure, nomem, nostack, preserves_flags),
                        );
                    }
                }
            }
        }
    }

    /// Two rows of lanes 0 and 1, and of 2 and 3, become four lanes of either row.
    #[inline(always)]
    fn done<const R: usize>(mut sums: [Integers; R]) -> [Integers; R] {
        for pair in sums.chunks_exact_mut(2) {
            for quad in 0..QUADS {
                // SAFETY: every processor of the architecture has these.
                let [low, high] = unsafe { [pair[0][quad], pair[1][quad]].map(|x| vreinterpretq_s64_s32(x)) };
                // SAFETY: as above.
                unsafe {
                    pair[0][quad] = vreinterpretq_s32_s64(vzip1q_s64(low, high));
                    pair[1][quad] = vreinterpretq_s32_s64(vzip2q_s64(low, high));
                }
            }
        }
        sums
    }
}

/// Four bytes of the inputs in every lane.
///
/// # Safety
/// They are there, at any address.
#[inline(always)]
unsafe fn four(codes: *const i8, step: usize) -> int8x16_t {
    // SAFETY: the contract of the caller.
    unsafe { vreinterpretq_s8_s32(vdupq_n_s32(codes.cast::<i32>().add(step).read_unaligned())) }
}

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
                    let starts = about.map(|about| [vdupq_n_s32(start::<K>(about, fold)); QUADS]);
                    let integers = fold_of::<R, M, K>(codes, first.add(LINE * half), fold);
                    let scales = scales_of::<K>(record, own, half, fold);
                    for (row, about) in about.iter().enumerate() {
                        let to = sums.to.add(row * sums.stride + lanes);
                        for quad in 0..QUADS {
                            let integers = vaddq_s32(integers[row][quad], starts[row][quad]);
                            let factor = vmulq_n_f32(scales[quad], about.scale);
                            let to = to.add(quad * QUAD);
                            vst1q_f32(to, vfmaq_f32(vld1q_f32(to), vcvtq_f32_s32(integers), factor));
                        }
                    }
                }
                if matches!(order.scaling(), Scaling::Two | Scaling::Groups) {
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
    let sum = match K::ORDER.folds() {
        1 => about.minus_sum,
        _ if fold == 0 => about.minus_first,
        _ => about.minus_second,
    };
    zero * sum
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
                for quad in 0..QUADS {
                    match order.high() {
                        1 => {
                            let mask = vdupq_n_u8(0x10);
                            lower[quad] = vorrq_u8(lower[quad], vandq_u8(down[quad], mask));
                            down[quad] = vshrq_n_u8::<1>(down[quad]);
                            up[quad] = vshlq_n_u8::<1>(up[quad]);
                            upper[quad] = vorrq_u8(upper[quad], vandq_u8(up[quad], mask));
                        }
                        2 => {
                            let mask = vdupq_n_u8(0x30);
                            lower[quad] = vorrq_u8(lower[quad], vandq_u8(down[quad], mask));
                            down[quad] = vshrq_n_u8::<2>(down[quad]);
                            up[quad] = vshlq_n_u8::<2>(up[quad]);
                            upper[quad] = vorrq_u8(upper[quad], vandq_u8(up[quad], mask));
                        }
                        _ => {}
                    }
                }
            }
            let signed = |weights: [[uint8x16_t; QUADS]; 2]| {
                weights.map(|weights| {
                    weights.map(|own| match K::ORDER {
                        Order::Nf4 => vqtbl1q_s8(vld1q_s8(nf4::ROUNDED.as_ptr()), own),
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

/// What the sums of a fold of a half's lanes are multiplied by.
///
/// # Safety
/// The record is there, and its block.
#[inline(always)]
unsafe fn scales_of<K: Kind>(
    record: *const u8,
    own: *const u8,
    half: usize,
    fold: usize,
) -> [float32x4_t; QUADS] {
    // SAFETY: the contract of the caller.
    unsafe {
        match K::ORDER.scaling() {
            Scaling::One | Scaling::Two => halves(own, half),
            Scaling::Groups => scaled(halves(record, half), unsigned(own.add(half * LANES))),
            Scaling::Halves => scaled(halves(record, half), signed(own.add(fold * PANEL + half * LANES))),
            Scaling::Wide => {
                let line: *const f32 = record.add(LINE * half * K::ORDER.block_lines()).cast();
                [0, 4, 8, 12].map(|at| vld1q_f32(line.add(at)))
            }
        }
    }
}

/// What is taken from each column of a half's lanes.
///
/// # Safety
/// As [`scales_of`].
#[inline(always)]
unsafe fn offsets_of<K: Kind>(record: *const u8, own: *const u8, half: usize) -> [float32x4_t; QUADS] {
    // SAFETY: the contract of the caller.
    unsafe {
        if matches!(K::ORDER.scaling(), Scaling::Two) {
            return halves(own.add(LINE), half);
        }
        scaled(halves(record.add(LINE), half), unsigned(own.add(PANEL + half * LANES)))
    }
}

#[inline(always)]
fn scaled(factors: [float32x4_t; QUADS], own: [float32x4_t; QUADS]) -> [float32x4_t; QUADS] {
    // SAFETY: every processor of the architecture has this.
    std::array::from_fn(|quad| unsafe { vmulq_f32(factors[quad], own[quad]) })
}

/// The f16 of a half of a line.
///
/// # Safety
/// The line is there.
#[inline(always)]
unsafe fn halves(line: *const u8, half: usize) -> [float32x4_t; QUADS] {
    [0, 4, 8, 12].map(|lane| {
        let wide: float32x4_t;
        // SAFETY: the contract of the caller; the instruction reads and writes the registers it is given.
        unsafe {
            let own = vld1_u16(line.cast::<u16>().add(half * LANES + lane));
            asm!(
                "fcvtl {wide:v}.4s, {own:v}.4h",
                wide = out(vreg) wide,
                own = in(vreg) own,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
        wide
    })
}

/// 16 bytes without a sign.
///
/// # Safety
/// They are there.
#[inline(always)]
unsafe fn unsigned(at: *const u8) -> [float32x4_t; QUADS] {
    // SAFETY: the contract of the caller.
    unsafe {
        let bytes = vld1q_u8(at);
        let [low, high] = [vmovl_u8(vget_low_u8(bytes)), vmovl_high_u8(bytes)];
        [
            vmovl_u16(vget_low_u16(low)),
            vmovl_high_u16(low),
            vmovl_u16(vget_low_u16(high)),
            vmovl_high_u16(high),
        ]
        .map(|own| vcvtq_f32_u32(own))
    }
}

/// 16 bytes with one.
///
/// # Safety
/// They are there.
#[inline(always)]
unsafe fn signed(at: *const u8) -> [float32x4_t; QUADS] {
    // SAFETY: the contract of the caller.
    unsafe {
        let bytes = vld1q_s8(at.cast());
        let [low, high] = [vmovl_s8(vget_low_s8(bytes)), vmovl_high_s8(bytes)];
        [
            vmovl_s16(vget_low_s16(low)),
            vmovl_high_s16(low),
            vmovl_s16(vget_low_s16(high)),
            vmovl_high_s16(high),
        ]
        .map(|own| vcvtq_f32_s32(own))
    }
}
