//! Element types of tensors, and the precision of products.

use crate::quant::BlockFormat;

/// Element type of a [`Tensor`](super::Tensor).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    /// IEEE 754 single precision.
    F32,
    /// bfloat16: the upper half of an f32.
    Bf16,
    /// IEEE 754 half precision.
    F16,
    /// Blocks of quantized elements that share scales.
    Block(BlockFormat),
}

impl DType {
    /// Bytes that `len` elements take, scales included.
    pub fn bytes(self, len: usize) -> usize {
        match self {
            DType::F32 => 4 * len,
            DType::Bf16 | DType::F16 => 2 * len,
            DType::Block(format) => format.bytes(len),
        }
    }

    /// The dtype in which a safetensors file stores these elements: bf16 for blocks, which the format lacks.
    pub fn plain(self) -> DType {
        match self {
            DType::Block(_) => DType::Bf16,
            plain => plain,
        }
    }

    /// The name in Hugging Face configs: `float32`, `bfloat16`, `float16`; the format's name for blocks.
    pub fn name(self) -> &'static str {
        match self {
            DType::F32 => "float32",
            DType::Bf16 => "bfloat16",
            DType::F16 => "float16",
            DType::Block(format) => format.name(),
        }
    }
}

/// Precision of the operands of matrix products. Accumulators are f32 in both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Arithmetic {
    /// f32; narrower operands are widened.
    #[default]
    F32,
    /// bf16; f32 operands are rounded (to nearest, ties to even) as they are packed: mixed precision without a second
    /// copy of the weights. Subnormal bf16 values may be flushed to zero.
    Bf16,
}
