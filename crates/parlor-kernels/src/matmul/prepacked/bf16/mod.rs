//! Products of prepacked bf16 weights with activations rounded to bf16 (to nearest, ties to even), sums in f32.

mod activations;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
mod driver;
#[cfg(target_arch = "aarch64")]
pub(crate) mod neon;
pub(crate) mod portable;
mod tile;

pub use driver::forward;
pub use tile::Bf16Kernel;
