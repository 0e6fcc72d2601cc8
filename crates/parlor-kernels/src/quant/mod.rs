//! Quantized numbers in blocks that share a scale: GGUF's formats of 32 elements (`legacy`) and of 256
//! (`k_quants`), NF4 (`nf4`), and the 8-bit map of optimizer moments ([`DynamicMap`]).
//!
//! [`BlockFormat`] names a format, [`Blocks`] owns blocks, [`BlockView`] borrows a range of elements in them.

mod blocks;
mod dynamic_map;
mod format;
pub(crate) mod k_quants;
pub(crate) mod legacy;
pub(crate) mod nf4;
mod words;

pub(crate) use blocks::unpack_quants;
pub use blocks::{BlockView, Blocks};
pub use dynamic_map::{DYNAMIC_MAP_BLOCK, DynamicMap, Sign};
pub use format::BlockFormat;
