//! Matrix products, and the one place that chooses how a product is computed.
//!
//! | method | operands |
//! |---|---|
//! | [`gemm`] | any dtype, packed into panels for the call |
//! | [`gemv`] | few rows, weights read in place |
//! | [`prepacked`] | weights packed ahead of time: quantized (int8 kernels) or bf16 |
//! | `gemm_crate` | f32, by the `gemm` crate |
//!
//! [`KernelSet`] has the kernels of each instruction set, `thresholds` every number that decides by size.

pub mod gemm;
pub(crate) mod gemm_crate;
pub(crate) mod gemv;
mod kernels;
pub mod prepacked;
mod thresholds;
mod write;

use crate::cpu::isa::Isa;
use crate::memory::prepacked::layout::PackedLayout;
use crate::memory::{Arithmetic, PrepackedWeight, View};
use thresholds::GEMV_ROWS;

pub use kernels::KernelSet;
pub use write::Write;

/// How a product is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    /// gemm of this crate, all weights in one batch.
    Gemm,
    /// gemm of the `gemm` crate for weights that are f32, of this crate for others.
    GemmCrate,
    /// Dot products, the weights read once.
    Gemv,
    /// Prepacked kernels, int8 or bf16 by the weight.
    Prepacked,
    /// gemm in bf16 precision, into whose panels prepacked bf16 weights are widened.
    WidenedGemm,
}

/// The method of `x W^T` for `rows` rows of `x` and each of some weights.
pub(crate) fn choose(
    rows: usize,
    weights: &[View<'_>],
    arithmetic: Arithmetic,
    kernels: &KernelSet,
) -> Method {
    let packed = || weights.iter().map(whole_prepacked);
    if packed().all(|weight| weight.is_some()) {
        let is_bf16 = |weight: &PrepackedWeight| weight.grid().layout == PackedLayout::Bf16Pairs;
        let widen = rows > kernels.bf16().widen_rows && packed().flatten().all(is_bf16);
        return if widen { Method::WidenedGemm } else { Method::Prepacked };
    }
    if rows <= GEMV_ROWS && arithmetic == Arithmetic::F32 {
        return Method::Gemv;
    }
    let has_f32 = weights.iter().any(|weight| matches!(weight, View::F32(_)));
    if has_f32 && prefers_gemm_crate(arithmetic) { Method::GemmCrate } else { Method::Gemm }
}

/// The method of a product of both these operands that is no `x W^T`: a backward product.
pub(crate) fn choose_backward(operands: [View<'_>; 2], arithmetic: Arithmetic) -> Method {
    let are_f32 = operands.iter().all(|operand| matches!(operand, View::F32(_)));
    if are_f32 && prefers_gemm_crate(arithmetic) { Method::GemmCrate } else { Method::Gemm }
}

/// The weight behind a view, if it is prepacked and whole.
pub(crate) fn whole_prepacked<'a>(weight: &View<'a>) -> Option<&'a PrepackedWeight> {
    if let View::Packed(view) = weight { view.whole() } else { None }
}

/// Whether the `gemm` crate's f32 tiles are used instead of this crate's. On AVX2 its forward and input-gradient products of 256 rows
/// are 15% faster (86 and 75 GFLOP/s on one Zen core, `examples/products.rs`; from 1024 rows on the two are within 5%). This crate has no
/// f32 tile for NEON. With AVX-512 this crate's tile is faster. The crate chooses its instructions itself, so it is not used where less
/// than the machine has is asked for.
fn prefers_gemm_crate(arithmetic: Arithmetic) -> bool {
    let isa = Isa::current();
    arithmetic == Arithmetic::F32 && isa != Isa::Avx512 && Isa::available().last() == Some(&isa)
}
