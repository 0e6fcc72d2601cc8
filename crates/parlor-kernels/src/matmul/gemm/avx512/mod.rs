//! gemm with AVX-512: of f32, and of bf16 pairs.

mod bf16;
mod f32;
mod output;
mod packing;

pub(crate) use bf16::Avx512Bf16;
pub(crate) use f32::Avx512;
