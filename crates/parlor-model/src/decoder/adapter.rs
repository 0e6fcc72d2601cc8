//! Adapters that are attached to a decoder: which parameters they add, and where they apply (LoRA, rsLoRA,
//! DoRA).
//!
//! An adapter's parameters follow the model's in [`Decoder::parameters`](crate::Decoder::parameters). Which
//! adapter applies to a row is the choice of its segment ([`crate::AdapterChoice`]), so one forward pass
//! serves several adapters.

use std::ops::Range;

use super::parameters::{ParameterId, Site, TensorLayout};
use crate::config::AdapterConfig;

/// Index of an adapter of a decoder, in the order of attaching.
pub type AdapterId = usize;

/// One tensor of an adapter: PEFT's name, and the parameters in it.
#[derive(Clone, Debug)]
pub struct AdapterTensor {
    /// PEFT's name, without the prefix `base_model.model.`.
    pub name: String,
    /// How a matrix is stored in the file.
    pub(crate) layout: TensorLayout,
    /// Its parameters, counted from the adapter's first.
    pub(crate) parameters: Range<usize>,
    /// What the tensor is to the model.
    pub(crate) kind: AdapterTensorKind,
}

/// What an adapter's tensor is to the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AdapterTensorKind {
    /// A low-rank factor or a magnitude, in addition to the model's weight.
    LowRank,
    /// The adapter's version of a tensor of the model, which it replaces.
    Replacement,
}

impl AdapterTensor {
    /// Whether it replaces a tensor of the model, rather than adding a low-rank factor to one.
    pub fn is_replacement(&self) -> bool {
        self.kind == AdapterTensorKind::Replacement
    }
}

/// An adapter that is attached to a [`crate::Decoder`].
#[derive(Clone, Debug)]
pub struct Adapter {
    pub(crate) config: AdapterConfig,
    /// By `layer * Site::COUNT + site`.
    pub(crate) low_rank: Vec<Option<LowRank>>,
    /// Per parameter of the model: the parameter that is used, which is the same or the adapter's replacement.
    pub(crate) resolved: Vec<ParameterId>,
    /// The output head that is used.
    pub(crate) head: ParameterId,
    pub(crate) tensors: Vec<AdapterTensor>,
    /// Its parameters.
    pub(crate) parameters: Range<ParameterId>,
}

impl Adapter {
    /// Its configuration.
    pub fn config(&self) -> &AdapterConfig {
        &self.config
    }

    /// Whether it replaces parameters of the model. Such an adapter must serve a whole batch.
    pub fn replaces_parameters(&self) -> bool {
        self.tensors.iter().any(AdapterTensor::is_replacement)
    }

    /// Number of modules with low-rank factors.
    pub(crate) fn adapted_modules(&self) -> usize {
        self.tensors.iter().filter(|tensor| tensor.name.ends_with("lora_A.weight")).count()
    }

    /// The low-rank update of a linear layer.
    pub(crate) fn low_rank(&self, layer: usize, site: Site) -> Option<&LowRank> {
        self.low_rank.get(layer * Site::COUNT + site as usize)?.as_ref()
    }
}

/// The low-rank update `scale * B A` of one linear layer, by the ids of its parameters.
#[derive(Clone, Debug)]
pub(crate) struct LowRank {
    pub(crate) a: ParameterId,
    pub(crate) b: ParameterId,
    /// DoRA's magnitudes.
    pub(crate) magnitude: Option<ParameterId>,
    /// Rows of `B` and of the magnitude that are this layer's: all, unless its module holds several layers.
    pub(crate) rows: Range<usize>,
    pub(crate) rank: usize,
    pub(crate) scale: f32,
    pub(crate) dropout: f32,
}

impl LowRank {
    /// The elements of `B` that are this layer's.
    pub(crate) fn b_range(&self) -> Range<usize> {
        self.rows.start * self.rank..self.rows.end * self.rank
    }
}
