//! How the weights of a model are loaded: number format, storage, layout, longest sequence.

use parlor_kernels::{BlockFormat, DType};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Number format of the weights in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TorchDtype {
    /// The one that each tensor has in the checkpoint: nothing is converted.
    #[default]
    Auto,
    /// 4 bytes per weight; what training uses.
    #[serde(alias = "fp32", alias = "f32")]
    Float32,
    /// 2 bytes per weight, the range of float32.
    #[serde(alias = "bf16")]
    Bfloat16,
    /// 2 bytes per weight, more digits and less range than bfloat16.
    #[serde(alias = "fp16", alias = "f16")]
    Float16,
}

impl TorchDtype {
    /// The dtype that a tensor of `own` dtype is loaded in.
    pub fn resolve(self, own: DType) -> DType {
        match self {
            TorchDtype::Auto => own,
            TorchDtype::Float32 => DType::F32,
            TorchDtype::Bfloat16 => DType::Bf16,
            TorchDtype::Float16 => DType::F16,
        }
    }
}

/// Where loaded weights are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum WeightStorage {
    /// In the mapped file, read-only, where they need no conversion. For inference.
    #[default]
    Mapped,
    /// In memory of their own. Training needs this, together with float32.
    Owned,
}

/// The memory layout of bf16 and quantized weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum WeightLayout {
    /// As their format stores them. Training an adapter needs this.
    #[default]
    Stored,
    /// Prepacked for the matrix products, see
    /// [`Decoder::optimize_for_inference`](crate::Decoder::optimize_for_inference).
    Prepacked,
}

/// What to do with `model.max_length`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MaxLength {
    /// Use the model's own limit.
    #[default]
    Model,
    /// Use this many tokens; an error when it is over the model's limit. For a value that someone chose.
    Exactly(usize),
    /// Use this many tokens or the model's limit, whichever is less. For a default.
    AtMost(usize),
}

/// How to load a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct LoadOptions {
    /// Number format in memory.
    pub dtype: TorchDtype,
    /// Quantized format of the blocks' linear layers; `None` leaves them in `dtype`.
    pub quantization: Option<BlockFormat>,
    /// Where weights are stored.
    pub storage: WeightStorage,
    /// Their memory layout.
    pub layout: WeightLayout,
    /// Longest sequence.
    pub max_length: MaxLength,
    /// Bytes that may be allocated for weights; `None` asks the operating system.
    pub memory_limit: Option<u64>,
}

impl LoadOptions {
    /// Float32 in memory of its own: what training needs.
    pub fn for_training() -> Self {
        Self { dtype: TorchDtype::Float32, storage: WeightStorage::Owned, ..Self::default() }
    }
}
