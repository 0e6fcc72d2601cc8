//! What a checkpoint's tensors are called and how they hold the decoder's parameters.

use crate::parameter::Role;

/// How a matrix lies on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TensorLayout {
    /// `[out, in]`, as the decoder holds it.
    Plain,
    /// `[in, out]`.
    Transposed,
    /// `[out, in]`, where the rows of each head alternate between its first and its second half: the two of them
    /// that are rotated together are neighbours.
    Interleaved {
        /// Number of heads.
        heads: usize,
    },
}

/// One tensor of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointTensor {
    /// Its name in files that Parlor writes.
    pub name: String,
    /// Other names under which it is accepted.
    pub alternatives: Vec<String>,
    /// How it lies on disk.
    pub layout: TensorLayout,
    /// The parameters in it; several are joined along the output dimension.
    pub roles: Vec<Role>,
}
