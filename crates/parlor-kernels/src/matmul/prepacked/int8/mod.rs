//! Products of prepacked weights of 4 to 8 bits with activations quantized to 8 bits.
//!
//! Sums over a block of 32 columns are exact integers; blocks are added in f32, one after the other. So a result depends neither on the
//! instruction set, nor on threads, nor on the rows that it is computed with.

mod activations;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
mod driver;
#[cfg(target_arch = "aarch64")]
pub(crate) mod neon;
pub(crate) mod portable;
#[cfg(target_arch = "x86_64")]
mod prefetch;
pub(crate) mod q8_block;
mod tile;

pub use activations::QuantizedActivations;
pub use driver::forward;
pub(crate) use driver::quantize_and_forward;
pub use tile::Int8Kernel;
