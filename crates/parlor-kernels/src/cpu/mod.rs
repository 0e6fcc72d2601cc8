//! The processor: selection of the instruction set, SIMD loops over slices, the roofline.

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
pub mod isa;
pub mod roofline;
pub(crate) mod simd;
