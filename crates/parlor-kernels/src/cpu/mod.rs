//! The processor: selection of the instruction set, SIMD loops over slices, the roofline.

pub mod isa;
pub mod roofline;
pub(crate) mod simd;
