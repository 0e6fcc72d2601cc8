//! `y (+)= x W^T` for a few input rows (decode): dot products in f32, each weight row read once for all input rows.

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
mod driver;
mod kernel;
pub(crate) mod portable;

pub(crate) use driver::forward;
pub(crate) use kernel::{GemvKernel, MAX_ROWS, WeightRows};
