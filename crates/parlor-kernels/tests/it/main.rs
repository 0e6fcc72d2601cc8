//! Every operation against a scalar f64 reference, and every gradient against central differences of the reference, over
//! odd sizes.
//!
//! Tolerances: an f32 sum of `n` products has an error of about `sqrt(n) * 2^-24` of the sum of magnitudes; `close`
//! allows 2e-5 of the largest magnitude, which covers n up to 10^4 and the error of `exp`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod attention;
mod cross_entropy;
mod gemm;
mod isa_choice;
mod linear;
mod lora;
mod norm;
mod optimizer;
mod pointwise;
mod pool;
mod prepacked;
mod quant;
mod rounded;
mod tensor;

use parlor_kernels::cpu::isa::{self, Isa};

/// Deterministic numbers in [-1, 1): a 64-bit linear congruential generator (Knuth's MMIX constants).
pub(crate) struct Numbers(u64);

/// Forces the instruction set that `PARLOR_ISA` names, so that the same tests run on each.
fn force_isa() {
    if let Ok(name) = std::env::var("PARLOR_ISA") {
        isa::force(Isa::from_name(&name).unwrap()).unwrap();
    }
}

impl Numbers {
    pub(crate) fn new(seed: u64) -> Self {
        force_isa();
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 40) as f32 / (1u64 << 23) as f32) - 1.0
    }

    pub(crate) fn vec(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.next()).collect()
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        ((f64::from(self.next()) + 1.0) / 2.0 * n as f64) as usize % n.max(1)
    }
}

pub(crate) fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&x| f64::from(x)).collect()
}

/// `got` is `want` to within 2e-5 of the largest magnitude in `want`.
pub(crate) fn close(name: &str, got: &[f32], want: &[f64]) {
    close_within(name, got, want, 2e-5);
}

pub(crate) fn close_within(name: &str, got: &[f32], want: &[f64], relative: f64) {
    assert_eq!(got.len(), want.len(), "{name}: lengths");
    let largest = want.iter().fold(1e-3f64, |max, x| max.max(x.abs()));
    for (index, (&got, &want)) in got.iter().zip(want).enumerate() {
        let error = (f64::from(got) - want).abs();
        assert!(error <= relative * largest, "{name}[{index}]: got {got}, want {want}, largest {largest}");
    }
}

/// Gradient of `loss` at `at` by central differences in f64.
pub(crate) fn differences(at: &[f64], loss: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    let mut point = at.to_vec();
    (0..at.len())
        .map(|i| {
            let (x, step) = (point[i], 1e-5);
            point[i] = x + step;
            let above = loss(&point);
            point[i] = x - step;
            let below = loss(&point);
            point[i] = x;
            (above - below) / (2.0 * step)
        })
        .collect()
}

/// Sum of `a[i] * b[i]`: turns an output into a scalar loss whose gradient by the output is `b`.
pub(crate) fn inner(a: &[f64], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, &b)| a * f64::from(b)).sum()
}
