//! Low-rank adapters: small matrices beside frozen weights, in PEFT's format and arithmetic (LoRA, rsLoRA, DoRA).
//!
//! An adapter's parameters follow the model's in [`Decoder::parameters`]; which of them apply to a row is the choice of
//! its segment ([`crate::AdapterChoice`]), so that one forward pass serves several adapters. Leaves out: adapters of
//! embeddings and of the output head, and of convolutions.

mod config;
pub(crate) mod factors;
mod files;
mod merge;
mod modules;
mod plan;

use std::ops::Range;

pub use config::{ALL_LINEAR, AdapterBias, AdapterConfig, InitLora, TargetModules};
pub(crate) use files::is_adapter;
pub use files::{AdapterInfo, load_adapter, read_adapter_config, save_adapter};
pub use merge::merge;
pub use plan::{AdapterPlan, AdapterTensor};

use crate::decoder::{Decoder, ParameterId};
use crate::manager::TrainableParameters;
use crate::parameter::{Kind, Owner, Site};

/// Number of an adapter of a decoder, in the order of attaching.
pub type AdapterId = usize;

/// An adapter that is attached.
#[derive(Clone, Debug)]
pub struct Adapter {
    pub(crate) config: AdapterConfig,
    /// By `layer * Site::COUNT + site`.
    pub(crate) at: Vec<Option<LowRank>>,
    /// Per parameter of the model, the one in force: the same, or the adapter's own version.
    pub(crate) resolved: Vec<ParameterId>,
    /// The output head in force.
    pub(crate) head: ParameterId,
    pub(crate) tensors: Vec<AdapterTensor>,
    /// Its parameters.
    pub(crate) parameters: Range<ParameterId>,
}

impl Adapter {
    /// What it is.
    pub fn config(&self) -> &AdapterConfig {
        &self.config
    }

    /// Whether it has versions of its own of parameters of the model. Such an adapter must serve a whole batch.
    pub fn replaces_parameters(&self) -> bool {
        self.tensors.iter().any(AdapterTensor::is_own)
    }

    /// Number of modules with factors.
    pub(crate) fn adapted_modules(&self) -> usize {
        self.tensors.iter().filter(|tensor| tensor.name.ends_with("lora_A.weight")).count()
    }

    /// The factors beside a linear layer.
    pub(crate) fn low_rank(&self, layer: usize, site: Site) -> Option<&LowRank> {
        self.at.get(layer * Site::COUNT + site as usize)?.as_ref()
    }
}

/// The factors beside one linear layer.
#[derive(Clone, Debug)]
pub(crate) struct LowRank {
    pub(crate) a: ParameterId,
    pub(crate) b: ParameterId,
    pub(crate) magnitude: Option<ParameterId>,
    /// Rows of `B` and of the magnitude that are this layer's: all, unless its module holds several layers.
    pub(crate) rows: Range<usize>,
    pub(crate) rank: usize,
    pub(crate) scale: f32,
    pub(crate) dropout: f32,
}

impl Decoder {
    /// The adapters that are attached.
    pub fn adapters(&self) -> &[Adapter] {
        &self.adapters
    }

    /// Chooses the adapter that segments without a choice of their own use; at first none. The first that is attached
    /// becomes it by itself.
    pub fn activate(&mut self, adapter: Option<AdapterId>) {
        self.active = adapter.filter(|&adapter| adapter < self.adapters.len());
    }

    /// Trains the parameters of `adapter` alone.
    pub fn train_adapter(&mut self, adapter: AdapterId) {
        self.train_only(|spec| spec.owner == Owner::Adapter(adapter));
    }

    /// How many parameters are trained, of how many, as PEFT counts them: biases that an adapter trains are the model's
    /// own to it, and are counted once.
    pub fn trainable_parameters(&self) -> TrainableParameters {
        let copied_bias = |parameter: &&crate::Parameter| {
            parameter.spec.kind == Kind::Bias && parameter.spec.owner != Owner::Model
        };
        let copies: usize = self.parameters.iter().filter(copied_bias).map(|p| p.spec.len()).sum();
        let (trainable, all) = (self.trained_count(), self.parameter_count() - copies);
        TrainableParameters { trainable, all, percent: 100.0 * trainable as f64 / all.max(1) as f64 }
    }

    /// The parameters of the model itself, without those of adapters.
    pub fn model_parameters(&self) -> &[crate::Parameter] {
        &self.parameters[..self.model_parameter_count]
    }
}
