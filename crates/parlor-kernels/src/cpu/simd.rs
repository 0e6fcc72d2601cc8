//! Loops over slices, compiled once per instruction set by `pulp` and dispatched at run time.
//!
//! Every closure and function in such a loop is `#[inline(always)]`, so that it is compiled for the instruction set of
//! its dispatcher. Sums use 16 lanes in a fixed order: results are the same on every instruction set, except for the
//! rounding of fused multiply-add.

use half::bf16;

#[cfg(target_arch = "x86_64")]
use super::isa::Isa;

const LANES: usize = 16;

/// Runs `op` with the widest instruction set in use.
#[inline(always)]
pub(crate) fn dispatch<R>(op: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    return match Isa::current() {
        Isa::Avx512 => pulp::Arch::new().dispatch(op),
        Isa::Avx2 => match pulp::x86::V3::try_new() {
            Some(v3) => v3.vectorize(op),
            None => op(),
        },
        Isa::Portable | Isa::Neon => op(),
    };
    #[cfg(not(target_arch = "x86_64"))]
    return pulp::Arch::new().dispatch(op);
}

/// `a * b + c`, fused where the compilation target has an instruction for it; elsewhere `mul_add` would be a call.
#[inline(always)]
pub(crate) fn multiply_add(a: f32, b: f32, c: f32) -> f32 {
    if cfg!(any(target_feature = "fma", target_arch = "aarch64")) { a.mul_add(b, c) } else { a * b + c }
}

/// Widens `values` into `out`.
pub(crate) fn widen_bf16(values: &[bf16], out: &mut [f32]) {
    dispatch(
        #[inline(always)]
        || {
            for (out, value) in out.iter_mut().zip(values) {
                *out = widen(*value);
            }
        },
    );
}

/// An element type of activations and gradients: f32 or bf16. Arithmetic on it is in f32.
pub trait Element: Copy + Send + Sync {
    /// Rounds `x` to nearest, ties to even; NaN stays NaN.
    fn narrow(x: f32) -> Self;
    /// The same number in f32.
    fn widen(self) -> f32;
}

impl Element for f32 {
    #[inline(always)]
    fn narrow(x: f32) -> Self {
        x
    }

    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }
}

impl Element for bf16 {
    #[inline(always)]
    fn narrow(x: f32) -> Self {
        bf16::from_bits((round_to_bf16(x).to_bits() >> 16) as u16)
    }

    #[inline(always)]
    fn widen(self) -> f32 {
        widen(self)
    }
}

/// Rounds `from` into `to`; what is longer of the two is left over.
pub(crate) fn round_into(from: &[f32], to: &mut [bf16]) {
    dispatch(
        #[inline(always)]
        || {
            for (to, from) in to.iter_mut().zip(from) {
                *to = bf16::narrow(*from);
            }
        },
    );
}

/// `x` rounded to bf16 and widened back: to nearest, ties to even; NaN stays NaN (quiet).
#[inline(always)]
pub(crate) fn round_to_bf16(x: f32) -> f32 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7FFF + ((bits >> 16) & 1)) & 0xFFFF_0000;
    f32::from_bits(if x.is_nan() { (bits | 0x0040_0000) & 0xFFFF_0000 } else { rounded })
}

/// `value` in f32: a shift.
#[inline(always)]
pub(crate) fn widen(value: bf16) -> f32 {
    f32::from_bits(u32::from(value.to_bits()) << 16)
}

/// Sum of `a[i] * widen(b[i])`.
#[inline(always)]
pub(crate) fn dot_with<T: Copy>(a: &[f32], b: &[T], widen: impl Fn(T) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (mut a_chunks, mut b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    for (a, b) in (&mut a_chunks).zip(&mut b_chunks) {
        for lane in 0..LANES {
            lanes[lane] = a[lane].mul_add(widen(b[lane]), lanes[lane]);
        }
    }
    let mut tail = 0.0;
    for (a, b) in a_chunks.remainder().iter().zip(b_chunks.remainder()) {
        tail = a.mul_add(widen(*b), tail);
    }
    tail + reduce(lanes)
}

/// Sum of `a[i] * b[i]`.
#[inline(always)]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    dot_with(
        a,
        b,
        #[inline(always)]
        |b| b,
    )
}

/// Sum of `f(x)` over `values`.
#[inline(always)]
pub(crate) fn sum_of(values: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let mut chunks = values.chunks_exact(LANES);
    for chunk in &mut chunks {
        for lane in 0..LANES {
            lanes[lane] += f(chunk[lane]);
        }
    }
    let tail: f32 = chunks.remainder().iter().map(|&x| f(x)).sum();
    tail + reduce(lanes)
}

/// Largest of `values`; NaN if any is NaN, negative infinity if there are none.
#[inline(always)]
pub(crate) fn max_of(values: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let mut nans = [0u32; LANES];
    let mut chunks = values.chunks_exact(LANES);
    for chunk in &mut chunks {
        for lane in 0..LANES {
            lanes[lane] = if chunk[lane] > lanes[lane] { chunk[lane] } else { lanes[lane] };
            nans[lane] |= u32::from(chunk[lane].is_nan());
        }
    }
    let mut max = f32::NEG_INFINITY;
    let mut nan = nans.iter().any(|&lane| lane != 0);
    for &x in chunks.remainder().iter().chain(&lanes) {
        max = if x > max { x } else { max };
        nan |= x.is_nan();
    }
    if nan { f32::NAN } else { max }
}

/// Sum of the lanes, pairwise.
#[inline(always)]
fn reduce(lanes: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    let mut lanes = lanes;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// `e^x`, relative error under 2 ulp, zero below -87.3 (where the result would be subnormal), infinity above
/// 88.7, NaN for NaN. Branch-free and without a cast to an integer (Rust's saturates, which is scalar code), so that
/// loops over it vectorise; calls into the C library do not.
///
/// Source: Cephes `expf` (range reduction by ln 2 in two parts, degree-5 polynomial).
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    const LOG2_E: f32 = std::f32::consts::LOG2_E;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    const LOWEST: f32 = -87.3;
    const HIGHEST: f32 = 88.7;
    // 1.5 * 2^23: adding it rounds to an integer, which then is in the lowest bits of the sum.
    const ROUND_TO_INTEGER: f32 = 12_582_912.0;
    let clamped = if x > LOWEST { x } else { LOWEST };
    let clamped = if clamped < HIGHEST { clamped } else { HIGHEST };
    let shifted = clamped.mul_add(LOG2_E, ROUND_TO_INTEGER);
    let n = shifted - ROUND_TO_INTEGER;
    let r = n.mul_add(-LN2_LOW, n.mul_add(-LN2_HIGH, clamped));
    let mut p = 1.987_569_1e-4f32;
    p = p.mul_add(r, 1.398_2e-3);
    p = p.mul_add(r, 8.333_452e-3);
    p = p.mul_add(r, 4.166_579_6e-2);
    p = p.mul_add(r, 1.666_666_5e-1);
    p = p.mul_add(r, 0.5);
    let y = (r * r).mul_add(p, r) + 1.0;
    // Adds n to the exponent. The exponent stays in range at both ends, since y is above 1 for n = -126 and below 1 for
    // n = 128.
    let y = f32::from_bits(y.to_bits().wrapping_add(shifted.to_bits() << 23));
    let y = if x < LOWEST { 0.0 } else { y };
    let y = if x > HIGHEST { f32::INFINITY } else { y };
    if x.is_nan() { x } else { y }
}
