//! The product with `vpdpbusd` on 512-bit registers: sums of up to 6 rows by 32 outputs stay in 12 registers, the integers of
//! a block in 12 more, and a block's weights pass by.

mod lanes;
mod scales;
mod unpack;

use std::arch::x86_64::*;

use super::avx2::ask_for;
use super::inputs::BlockOf;
use super::integers::{Sums, Tile};
use super::order::{Kind, Order, by_kind, kinds};
use super::{BLOCK, HALVES, LANES, LINE};
use crate::quant::nf4;

pub(super) use lanes::meet_all_lanes;
use scales::{offsets_of, scales_of};
pub(super) use unpack::unpack;

/// Input rows of a tile, at most.
pub(super) const ROWS: usize = 6;

/// Whether the instructions are there.
pub(super) fn here() -> bool {
    crate::cpu::isa::has_avx512_vnni()
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
        ($($rows:literal)*) => {
            match sums.rows {
                // SAFETY: the instruction set is there, the sizes were just checked.
                $($rows => unsafe { blocks_of::<$rows, K>(tile, blocks, sums) },)*
                rows => assert_eq!(rows, 0, "a tile has at most {ROWS} rows"),
            }
        };
    }
    by_rows!(1 2 3 4 5 6);
}

/// # Safety
/// AVX-512 F, BW and VNNI are there; `sums` holds `R` rows, `tile` so many blocks of each.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn blocks_of<const R: usize, K: Kind>(tile: Tile<'_>, blocks: usize, sums: Sums) {
    let order = const { K::ORDER };
    let (codes, about) = (tile.codes.as_ptr(), tile.about.as_ptr());
    // SAFETY: every address lies in a row, a record or the sums, as the contract says; what is asked for
    // ahead need not be there.
    unsafe {
        let mut totals = [[_mm512_setzero_ps(); HALVES]; R];
        for (r, totals) in totals.iter_mut().enumerate() {
            let soon = sums.soon.0.wrapping_add(r * sums.soon.1);
            for (half, total) in totals.iter_mut().enumerate() {
                _mm_prefetch::<_MM_HINT_ET0>(soon.wrapping_add(half * LANES).cast());
                if !sums.fresh {
                    *total = _mm512_loadu_ps(sums.to.add(r * sums.stride + half * LANES));
                }
            }
        }
        let mut record: *const u8 = tile.lines.as_ptr().cast();
        let mut own = record;
        for block in 0..blocks {
            if block % order.blocks() == 0 {
                record = own;
                ask_for(own, order.head());
                own = own.add(LINE * order.head());
            }
            ask_for(own, order.scale_lines() + HALVES * order.high());
            let high = own.add(LINE * order.scale_lines());
            let first = high.add(LINE * HALVES * order.high());
            for fold in 0..order.folds() {
                let mut integers = [[_mm512_setzero_si512(); HALVES]; R];
                for (r, integers) in integers.iter_mut().enumerate() {
                    let about = &*about.add(r * tile.stride + block);
                    *integers = [start::<K>(about, fold); HALVES];
                }
                let [mut down, mut up] = high_bits::<K>(high, fold);
                for line in 0..K::LINES {
                    let at = first.add(LINE * HALVES * (fold * K::LINES + line));
                    ask_for(at, HALVES);
                    let weights = [0, LINE].map(|half| _mm512_load_si512(at.add(half).cast()));
                    // Steps that lie in the upper halves of the bytes come after all of the lower ones.
                    let step = line + fold * K::STEPS;
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
                    if order.bits() == 8 {
                        add(weights, step);
                        continue;
                    }
                    add(lower::<K>(weights, &mut down), step);
                    add(upper::<K>(weights, &mut up), step + K::LINES);
                }
                let mut scales = [_mm512_setzero_ps(); HALVES];
                for (half, scales) in scales.iter_mut().enumerate() {
                    *scales = scales_of::<K>(record, own, half, fold);
                }
                for (r, (totals, integers)) in totals.iter_mut().zip(integers).enumerate() {
                    let scale = broadcast(&raw const (*about.add(r * tile.stride + block)).scale);
                    for half in 0..HALVES {
                        let factor = _mm512_mul_ps(scales[half], scale);
                        add_to(&mut totals[half], _mm512_cvtepi32_ps(integers[half]), factor);
                    }
                }
            }
            if order.has_offsets() {
                let offsets = [0, 1].map(|half| offsets_of::<K>(record, own, half));
                for (r, totals) in totals.iter_mut().enumerate() {
                    let less = broadcast(&raw const (*about.add(r * tile.stride + block)).minus_total);
                    for half in 0..HALVES {
                        add_to(&mut totals[half], offsets[half], less);
                    }
                }
            }
            own = own.add(LINE * order.block_lines());
        }
        for (r, totals) in totals.into_iter().enumerate() {
            for (half, total) in totals.into_iter().enumerate() {
                _mm512_storeu_ps(sums.to.add(r * sums.stride + half * LANES), total);
            }
        }
    }
}

/// Four bytes in every lane. Written out, as is [`start`], because of what lies side by side the compiler makes one vector, which it
/// then takes apart in registers that a tile does not have: a tenth of the time.
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

/// `total += a * b`. Written out, because the compiler may put the result where `a` was, and copies it back.
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

/// Where sums of a fold begin: with what a weight's offset takes from them.
///
/// # Safety
/// AVX-512F is there.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn start<K: Kind>(about: &BlockOf, fold: usize) -> __m512i {
    let sum = about.minus_sum_of::<K>(fold);
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
    match K::ORDER.zero() {
        0 => _mm512_setzero_si512(),
        8 => shifted!(3),
        16 => shifted!(4),
        32 => shifted!(5),
        _ => shifted!(7),
    }
}

/// The high bits of a fold, whose first lines are at `high`: on their way down, and up; nothing where there are none.
///
/// # Safety
/// AVX-512F is there, and the lines, aligned.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn high_bits<K: Kind>(high: *const u8, fold: usize) -> [[__m512i; HALVES]; 2] {
    if K::ORDER.high() == 0 {
        return [[_mm512_setzero_si512(); HALVES]; 2];
    }
    // SAFETY: the contract of the caller.
    unsafe {
        let line = high.add(LINE * HALVES * fold);
        [[_mm512_load_si512(line.cast()), _mm512_load_si512(line.add(LINE).cast())]; 2]
    }
}

/// The weights in the lower halves of bytes; `bits` are those of this step in their place, and afterwards those of the next.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn lower<K: Kind>(both: [__m512i; HALVES], bits: &mut [__m512i; HALVES]) -> [__m512i; HALVES] {
    let own = both.map(|both| _mm512_and_si512(both, _mm512_set1_epi8(15)));
    let weights = with_high::<K>(own, bits);
    for bits in bits {
        *bits = match K::ORDER.high() {
            1 => _mm512_srli_epi16::<1>(*bits),
            2 => _mm512_srli_epi16::<2>(*bits),
            _ => *bits,
        };
    }
    weights
}

/// The weights in the upper halves; the bits of the last step are brought to those of this.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn upper<K: Kind>(both: [__m512i; HALVES], bits: &mut [__m512i; HALVES]) -> [__m512i; HALVES] {
    for bits in &mut *bits {
        *bits = match K::ORDER.high() {
            1 => _mm512_slli_epi16::<1>(*bits),
            2 => _mm512_slli_epi16::<2>(*bits),
            _ => *bits,
        };
    }
    let own = both.map(|both| _mm512_and_si512(_mm512_srli_epi16::<4>(both), _mm512_set1_epi8(15)));
    with_high::<K>(own, bits)
}

/// The weights of half bytes, `bits` being theirs above the fourth, among others.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn with_high<K: Kind>(low: [__m512i; HALVES], bits: &[__m512i; HALVES]) -> [__m512i; HALVES] {
    let mut weights = low;
    for (weights, bits) in weights.iter_mut().zip(bits) {
        let mask = match (K::ORDER, K::ORDER.high()) {
            (Order::Nf4, _) => {
                *weights = _mm512_shuffle_epi8(levels(), *weights);
                continue;
            }
            (_, 0) => continue,
            (_, 1) => 0x10,
            _ => 0x30,
        };
        // Or of the first, and the second where the third has a bit.
        *weights = _mm512_ternarylogic_epi32::<0xF8>(*weights, *bits, _mm512_set1_epi8(mask));
    }
    weights
}

/// What NF4's places stand for, 128 more.
#[inline]
#[target_feature(enable = "avx512f")]
fn levels() -> __m512i {
    const UNSIGNED: [u8; 16] = {
        let mut levels = [0; 16];
        let mut at = 0;
        while at < levels.len() {
            levels[at] = nf4::INT8_CODEBOOK[at].cast_unsigned() ^ 0x80;
            at += 1;
        }
        levels
    };
    // SAFETY: the bytes are there.
    _mm512_broadcast_i32x4(unsafe { _mm_loadu_si128(UNSIGNED.as_ptr().cast()) })
}

/// `sums += weights * four`, `four` being four bytes in memory that meet every lane: those `TIMES` strides, up to two, past
/// an address.
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
    unsafe { meet_all_lanes!("vpbroadcastd" "vpdpbusd", sums, weights, (four, stride, TIMES)) };
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
            let scale = max / 127.0 + poison;
            let inverse = _mm512_set1_ps(if max > 0.0 { 127.0 / max } else { 0.0 });
            let bytes = x.map(|x| _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(x, inverse))));
            let bytes = _mm256_set_m128i(bytes[1], bytes[0]);
            _mm256_storeu_si256(codes.as_mut_ptr().cast(), bytes);
            let sums = _mm256_dpbusd_epi32(_mm256_setzero_si256(), ones, bytes);
            // Two sums a half, and then one.
            let sums = _mm256_add_epi32(sums, _mm256_shuffle_epi32::<0x4E>(sums));
            let sums = _mm256_add_epi32(sums, _mm256_shuffle_epi32::<0xB1>(sums));
            let [first, second] = [_mm256_castsi256_si128(sums), _mm256_extracti128_si256::<1>(sums)];
            *about = BlockOf::new(scale, [_mm_cvtsi128_si32(first), _mm_cvtsi128_si32(second)]);
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
