//! Memory and fused operations, forward and backward. This crate knows no model.
//!
//! - [`Tensor`] holds bytes: shape, dtype, and storage that is owned or a read-only memory map. It has no
//!   arithmetic of its own.
//! - The operations are plain functions over slices of `f32` activations and [`View`]s of weights; activations that only
//!   products of bf16 read may be bf16 ([`Values`]). Each forward stands beside its backward, and each backward *accumulates*
//!   into gradients it is given, unless it is told to replace them.
//! - Activations are row-major `[tokens, features]`: a ragged batch has no padding and no mask tensor.
//!
//! Instruction sets are chosen at run time, here and nowhere else (see [`cpu::isa`]). Results do not depend on
//! the number of threads: every parallel reduction has a fixed partition.

pub mod activation;
pub mod attention;
pub mod cpu;
pub mod cross_entropy;
pub mod embedding;
pub mod linear;
pub mod lora;
pub mod matmul;
pub mod memory;
pub mod noise;
pub mod norm;
pub mod optimizer;
pub mod parallel;
pub mod rope;

mod quant;

pub use matmul::Write;
pub use matmul::gemm::Arithmetic;
pub use memory::{DType, MappedFile, Tensor, TensorError, Values, ValuesMut, View};
pub use quant::{BlockFormat, BlockView, Blocks};
