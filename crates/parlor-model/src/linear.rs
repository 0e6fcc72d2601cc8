//! The one place where a layer's input meets a weight. Under construction: passes come with the kernels.

use crate::decoder::ParameterId;

/// `y = x W^T + b`, by the places of its parameters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Linear {
    pub(crate) weight: ParameterId,
    pub(crate) bias: Option<ParameterId>,
    pub(crate) outputs: usize,
    pub(crate) inputs: usize,
}
