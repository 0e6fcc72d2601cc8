//! The int8 kernel with `vpdpbusd`: sums of up to 6 rows by 32 outputs stay in 12 registers, the integer sums of a block in 12 more.

use std::arch::x86_64::*;

use super::scales::{mins_of, scales_of};
use super::weights::{high_bits, lower, upper};
use crate::matmul::prepacked::broadcast_multiply::multiply_add_broadcast;
use crate::matmul::prepacked::int8::prefetch::prefetch_lines;
use crate::matmul::prepacked::int8::q8_block::Q8Block;
use crate::matmul::prepacked::int8::tile::{Accumulators, Int8Tile};
use crate::memory::prepacked::layout::{BLOCK, HALVES, LANES, LINE_BYTES, StaticLayout, with_layout};

/// Activation rows of a tile, at most.
pub(crate) const MR: usize = 6;

/// # Safety
/// AVX-512 F, BW and VNNI are there; the sums are the caller's alone.
pub(crate) unsafe fn tile(tile: Int8Tile<'_>, sums: Accumulators) {
    // SAFETY: the contract of the caller.
    with_layout!(tile.layout, L => unsafe { by_rows::<L>(tile, sums) });
}

/// # Safety
/// As [`tile`].
unsafe fn by_rows<L: StaticLayout>(tile: Int8Tile<'_>, sums: Accumulators) {
    let blocks = tile.blocks(sums.rows);
    macro_rules! by_rows {
        ($($rows:literal)*) => {
            match sums.rows {
                // SAFETY: the instruction set is there, the sizes were just checked.
                $($rows => unsafe { blocks_of::<$rows, L>(tile, blocks, sums) },)*
                rows => assert_eq!(rows, 0, "a tile has at most {MR} rows"),
            }
        };
    }
    by_rows!(1 2 3 4 5 6);
}

/// # Safety
/// AVX-512 F, BW and VNNI are there; `sums` holds `R` rows, `tile` so many blocks of each.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn blocks_of<const R: usize, L: StaticLayout>(tile: Int8Tile<'_>, blocks: usize, sums: Accumulators) {
    let layout = const { L::LAYOUT };
    let (quants, q8) = (tile.quants.as_ptr(), tile.q8.as_ptr());
    // SAFETY: every address lies in a row, an interleaved block or the sums, as the contract says; a prefetch
    // may miss.
    unsafe {
        let mut totals = [[_mm512_setzero_ps(); HALVES]; R];
        for (r, totals) in totals.iter_mut().enumerate() {
            let prefetch = sums.prefetch.0.wrapping_add(r * sums.prefetch.1);
            for (half, total) in totals.iter_mut().enumerate() {
                _mm_prefetch::<_MM_HINT_ET0>(prefetch.wrapping_add(half * LANES).cast());
                if !sums.from_zero {
                    *total = _mm512_loadu_ps(sums.to.add(r * sums.stride + half * LANES));
                }
            }
        }
        let mut interleaved: *const u8 = tile.lines.as_ptr().cast();
        let mut own = interleaved;
        for block in 0..blocks {
            if block % layout.blocks() == 0 {
                interleaved = own;
                prefetch_lines(own, layout.header_lines());
                own = own.add(LINE_BYTES * layout.header_lines());
            }
            prefetch_lines(own, layout.scale_lines() + HALVES * layout.high_bits());
            let high = own.add(LINE_BYTES * layout.scale_lines());
            let first = high.add(LINE_BYTES * HALVES * layout.high_bits());
            for sub_block in 0..layout.sub_blocks() {
                let mut integers = [[_mm512_setzero_si512(); HALVES]; R];
                for (r, integers) in integers.iter_mut().enumerate() {
                    let q8 = &*q8.add(r * tile.stride + block);
                    *integers = [initial_sum::<L>(q8, sub_block); HALVES];
                }
                let [mut down, mut up] = high_bits::<L>(high, sub_block);
                for line in 0..L::LINES {
                    let at = first.add(LINE_BYTES * HALVES * (sub_block * L::LINES + line));
                    prefetch_lines(at, HALVES);
                    let weights = [0, LINE_BYTES].map(|half| _mm512_load_si512(at.add(half).cast()));
                    // The steps in high nibbles come after all of those in low nibbles.
                    let step = line + sub_block * L::STEPS;
                    let mut add = |weights: [__m512i; HALVES], step: usize| {
                        // Two base addresses, and the stride once or twice, address six rows.
                        let four = quants.wrapping_add(block).cast::<i32>().wrapping_add(step);
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
                    if layout.bits() == 8 {
                        add(weights, step);
                        continue;
                    }
                    add(lower::<L>(weights, &mut down), step);
                    add(upper::<L>(weights, &mut up), step + L::LINES);
                }
                let mut scales = [_mm512_setzero_ps(); HALVES];
                for (half, scales) in scales.iter_mut().enumerate() {
                    *scales = scales_of::<L>(interleaved, own, half, sub_block);
                }
                for (r, (totals, integers)) in totals.iter_mut().zip(integers).enumerate() {
                    let scale = broadcast(&raw const (*q8.add(r * tile.stride + block)).scale);
                    for half in 0..HALVES {
                        let factor = _mm512_mul_ps(scales[half], scale);
                        add_to(&mut totals[half], _mm512_cvtepi32_ps(integers[half]), factor);
                    }
                }
            }
            if layout.has_mins() {
                let mins = [0, 1].map(|half| mins_of::<L>(interleaved, own, half));
                for (r, totals) in totals.iter_mut().enumerate() {
                    let less = broadcast(&raw const (*q8.add(r * tile.stride + block)).minus_scaled_sum);
                    for half in 0..HALVES {
                        add_to(&mut totals[half], mins[half], less);
                    }
                }
            }
            own = own.add(LINE_BYTES * layout.block_lines());
        }
        for (r, totals) in totals.into_iter().enumerate() {
            for (half, total) in totals.into_iter().enumerate() {
                _mm512_storeu_ps(sums.to.add(r * sums.stride + half * LANES), total);
            }
        }
    }
}

/// Broadcasts four bytes to every lane. Inline assembly, as is [`initial_sum`]: from adjacent values the compiler makes one vector and
/// takes it apart in registers that a tile does not have, a tenth of the time.
///
/// # Safety
/// AVX-512F is there, and the bytes.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn broadcast(at: *const f32) -> __m512 {
    let x;
    // SAFETY: the instruction reads four bytes.
    unsafe {
        std::arch::asm!(
            "vbroadcastss {x}, dword ptr [{at}]",
            x = out(zmm_reg) x,
            at = in(reg) at,
            options(pure, readonly, nostack, preserves_flags),
        );
    }
    x
}

/// `total += a * b`. Inline assembly, because the compiler may put the result where `a` was, and copy it back.
#[inline]
#[target_feature(enable = "avx512f")]
fn add_to(total: &mut __m512, a: __m512, b: __m512) {
    // SAFETY: the instruction reads and writes the registers it is given.
    unsafe {
        std::arch::asm!(
            "vfmadd231ps {total}, {a}, {b}",
            total = inout(zmm_reg) *total,
            a = in(zmm_reg) a,
            b = in(zmm_reg) b,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
}

/// The initial value of the sums of a sub-block: the negative contribution of the zero point.
///
/// # Safety
/// AVX-512F is there.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn initial_sum<L: StaticLayout>(q8: &Q8Block, sub_block: usize) -> __m512i {
    let sum = q8.minus_sum_of::<L>(sub_block);
    macro_rules! shifted {
        ($by:literal) => {{
            let x: __m512i;
            // SAFETY: the instruction reads four bytes.
            unsafe {
                std::arch::asm!(
                    concat!("vpslld {x}, dword ptr [{at}]{{1to16}}, ", $by),
                    x = out(zmm_reg) x,
                    at = in(reg) &raw const *sum,
                    options(pure, readonly, nostack, preserves_flags),
                );
            }
            x
        }};
    }
    match L::LAYOUT.zero_point() {
        0 => _mm512_setzero_si512(),
        8 => shifted!(3),
        16 => shifted!(4),
        32 => shifted!(5),
        _ => shifted!(7),
    }
}

/// `sums += weights * four`, where `four` is four bytes in memory, broadcast to every lane: those `TIMES` strides, up to two, past an
/// address.
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
    // SAFETY: the contract of the caller.
    unsafe { multiply_add_broadcast!("vpbroadcastd" "vpdpbusd", sums, weights, (four, stride, TIMES)) };
}
