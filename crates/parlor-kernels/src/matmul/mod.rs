//! Matrix products: by packed panels ([`gemm`]), of few rows ([`gemv`]), by prepacked weights ([`prepacked`]).

pub mod gemm;
mod gemm_crate;
pub(crate) mod gemv;
pub mod prepacked;

pub use gemm_crate::Write;
pub(crate) use gemm_crate::{Mat, MatMut, On, matmul};
