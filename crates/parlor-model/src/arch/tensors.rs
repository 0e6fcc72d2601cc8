//! What the tensors of a checkpoint are called, and which parameters of the decoder each holds.

use crate::decoder::{Role, TensorLayout};

/// The head's tensor in all families: a copy of the embedding where the two are tied.
pub(crate) const TIED_HEAD: &str = "lm_head.weight";

/// One tensor of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointTensor {
    /// Its name in files that Parlor writes.
    pub name: String,
    /// Other names under which it is accepted.
    pub alternatives: Vec<String>,
    /// How it is stored.
    pub layout: TensorLayout,
    /// The parameters in it; several are concatenated along the output dimension.
    pub roles: Vec<Role>,
}

impl CheckpointTensor {
    /// A tensor that holds one parameter as the decoder does, under one name.
    pub(crate) fn plain(name: impl Into<String>, role: Role) -> Self {
        Self { name: name.into(), alternatives: Vec::new(), layout: TensorLayout::Plain, roles: vec![role] }
    }
}
