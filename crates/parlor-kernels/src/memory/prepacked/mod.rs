//! Prepacked weights: frozen weights, rearranged once into the order in which the matmul microkernels read them. Plain data; the
//! products are in `matmul::prepacked`.
//!
//! [`layout`] describes the layouts byte by byte, [`interleave`] and [`pack`] produce them, [`block`] reads them value by value,
//! [`storage`] holds them, and [`weight`] is the handle that tensors and views carry.

pub(crate) mod block;
mod interleave;
#[cfg(target_arch = "x86_64")]
mod interleave_avx512;
pub(crate) mod layout;
mod pack;
mod source;
pub(crate) mod storage;
mod weight;
mod words;

pub(crate) use source::{MappedSource, PackSource};
pub use weight::{PrepackedView, PrepackedWeight};
