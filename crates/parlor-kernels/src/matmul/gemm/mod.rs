//! General matrix multiplication by packed panels and register tiles: operands of any dtype, sums in f32.

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
mod batch;
mod bf16_store;
mod blocking;
pub(crate) mod dispatch;
mod driver;
pub(crate) mod microkernel;
mod operand;
pub(crate) mod portable;
mod problem;
mod task;
mod widen_prepacked;

pub use batch::BatchedOperand;
pub use dispatch::GemmKernel;
pub use driver::{gemm, gemm_batched};
pub use operand::{Operand, StorageOrder};
pub use problem::{GemmOutput, GemmSize, LowRankEpilogue};
