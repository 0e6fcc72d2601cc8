//! Tensors and the fused operations of a decoder, forward and backward. This crate knows no model.
//!
//! - [`Tensor`] holds numbers: shape, dtype, and storage that is owned or a read-only memory map. It has no arithmetic
//!   of its own. Weights may be [quantized in blocks](quant).
//! - The operations are plain functions over slices of f32 activations and [`View`]s of weights. Activations that only
//!   bf16 products read may be bf16 ([`Values`]). Each forward stands beside its backward. A backward *accumulates*
//!   into the gradients it is given, unless [`Write`] says to replace them.
//! - Activations are row-major `[tokens, features]`: a ragged batch has no padding and no mask tensor.
//!
//! The instruction set is chosen at run time, in this crate and nowhere else ([`cpu::isa`]). Results do not depend on
//! the number of threads: every parallel reduction has a fixed partition.
//!
//! # Example
//!
//! A linear layer with a weight quantized to 8 bits, and the gradient by its input:
//!
//! ```
//! use parlor_kernels::linear::{self, Shape};
//! use parlor_kernels::{Arithmetic, BlockFormat, DType, Tensor, Write};
//!
//! let (rows, inputs, outputs) = (2, 64, 3);
//! let weight: Vec<f32> = (0..outputs * inputs).map(|i| i as f32 / 100.0).collect();
//! let weight = Tensor::from_f32(&[outputs, inputs], weight)?;
//! let quantized = weight.to_dtype(DType::Block(BlockFormat::Q8_0));
//! assert_eq!(quantized.owned_bytes(), outputs * inputs / 32 * 34);
//!
//! let x = vec![1.0; rows * inputs];
//! let mut y = vec![0.0; rows * outputs];
//! let shape = Shape { rows, inputs, outputs, arithmetic: Arithmetic::F32 };
//! linear::forward(&x, quantized.view(), None, &mut y, Write::Replace, shape);
//! // The sum of the first row of the weight, 0.00 + 0.01 + ... + 0.63, to the precision of its quants.
//! assert!((y[0] - 20.16).abs() < 64.0 * 0.5 * 0.63 / 127.0);
//!
//! let dy = vec![1.0; rows * outputs];
//! let mut dx = vec![0.0; rows * inputs];
//! linear::backward_input(&dy, quantized.view(), &mut dx, Write::Replace, shape);
//! # Ok::<(), parlor_kernels::TensorError>(())
//! ```

pub mod activation;
pub mod attention;
pub mod cpu;
pub mod cross_entropy;
pub mod embedding;
pub mod linear;
pub mod lora;
pub mod matmul;
pub mod memory;
pub mod norm;
pub mod optimizer;
pub mod parallel;
pub mod quant;
pub mod random;
pub mod rope;

pub use cpu::simd::Element;
pub use matmul::Write;
pub use memory::{Arithmetic, DType, MappedFile, Tensor, TensorError, Values, ValuesMut, View};
pub use quant::{BlockFormat, BlockView, Blocks};
