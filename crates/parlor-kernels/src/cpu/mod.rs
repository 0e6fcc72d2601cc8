//! The processor: instruction sets and their choice, SIMD on slices, the roofline.

pub mod isa;
pub mod roofline;
pub mod simd;
