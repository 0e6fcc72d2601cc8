//! The decoder: its parameters, and the layers that each block finds them in. `forward.rs` and `backward.rs`
//! run it.

use parlor_kernels::parallel::threads;
use parlor_kernels::{Arithmetic, DType, Tensor, ValuesMut, View, activation};
use serde::Serialize;

use super::adapter::{Adapter, AdapterId};
use super::error::DecoderError;
use super::initialise::initial_values;
use super::layers::{BlockLayers, LinearLayer, MlpLayers, NormLayer, QkNormLayers};
use super::parameters::{
    Kind, Owner, Parameter, ParameterId, ParameterPart, ParameterSpec, Role, Site, parameter_specs,
};
use super::rope_frequencies::RopeTables;
use crate::config::{Activation, DecoderConfig, Mlp, Norm, QkNorm};

/// A decoder-only transformer.
#[derive(Clone, Debug)]
pub struct Decoder {
    pub(crate) config: DecoderConfig,
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) embedding: ParameterId,
    pub(crate) positions: Option<ParameterId>,
    pub(crate) blocks: Vec<BlockLayers>,
    pub(crate) final_norm: NormLayer,
    pub(crate) head: ParameterId,
    /// Inverse frequencies of the rotary embeddings, one table for each different one.
    pub(crate) rope_tables: Vec<Vec<f32>>,
    /// Per parameter: whether training leaves it unchanged.
    frozen: Vec<bool>,
    pub(crate) adapters: Vec<Adapter>,
    pub(crate) active: Option<AdapterId>,
    /// How many of the parameters are the model's own; those of adapters follow.
    pub(crate) model_parameter_count: usize,
}

impl Decoder {
    /// Assembles a decoder from its parameters, which must be those of
    /// [`parameter_specs`]`(&config)` in that order; any dtype each.
    ///
    /// # Errors
    /// When the configuration is inconsistent or a parameter is missing, superfluous or misshapen.
    pub fn new(config: DecoderConfig, mut parameters: Vec<Parameter>) -> Result<Self, DecoderError> {
        let problems = config.problems();
        if !problems.is_empty() {
            return Err(DecoderError::Config(problems));
        }
        let specs = parameter_specs(&config);
        if specs.len() != parameters.len() {
            return Err(DecoderError::Count { expected: specs.len(), found: parameters.len() });
        }
        for (index, (spec, given)) in specs.iter().zip(&parameters).enumerate() {
            if spec.role != given.spec.role || spec.shape != given.tensor.shape() {
                return Err(DecoderError::Parameters {
                    index,
                    expected: spec.role.to_string(),
                    expected_shape: spec.shape.clone(),
                    found: given.spec.role.to_string(),
                    found_shape: given.tensor.shape().to_vec(),
                });
            }
        }
        // Norm weights and biases are small: one dtype for them keeps every operation on them simple.
        for parameter in &mut parameters {
            if parameter.spec.kind != Kind::Matrix && parameter.tensor.dtype() != DType::F32 {
                parameter.tensor = parameter.tensor.to_dtype(DType::F32);
            }
        }
        let find = |role: Role| specs.iter().position(|spec| spec.role == role);
        let need = |role: Role| find(role).ok_or(DecoderError::Count { expected: specs.len(), found: 0 });
        let (norm, eps) = (config.norm, config.norm.eps());
        let norm_layer = |role: &dyn Fn(ParameterPart) -> Role| {
            let weight = need(role(ParameterPart::Weight))?;
            Ok::<_, DecoderError>(match norm {
                Norm::Rms { .. } => NormLayer::Rms { eps, weight },
                Norm::Layer { .. } => {
                    NormLayer::Layer { eps, weight, bias: need(role(ParameterPart::Bias))? }
                }
            })
        };
        let mut frequencies = RopeTables::default();
        let mut blocks = Vec::with_capacity(config.layers.len());
        for (layer, own) in config.layers.iter().enumerate() {
            let at = |site, part| Role::Block { layer, site, part };
            let linear = |site| {
                let weight = need(at(site, ParameterPart::Weight))?;
                let shape = &specs[weight].shape;
                Ok::<_, DecoderError>(LinearLayer {
                    layer,
                    site,
                    weight,
                    bias: find(at(site, ParameterPart::Bias)),
                    outputs: shape[0],
                    inputs: shape[1],
                })
            };
            let (gate, activation) = match own.mlp {
                Mlp::Gated(activation) => (Some(linear(Site::GateProj)?), activation),
                Mlp::Plain(activation) => (None, activation),
            };
            let qk_norm = match config.qk_norm {
                QkNorm::None => None,
                QkNorm::PerHead => Some(QkNormLayers {
                    eps,
                    q: need(at(Site::QNorm, ParameterPart::Weight))?,
                    k: need(at(Site::KNorm, ParameterPart::Weight))?,
                }),
            };
            blocks.push(BlockLayers {
                input_norm: norm_layer(&|part| at(Site::InputNorm, part))?,
                q: linear(Site::QProj)?,
                k: linear(Site::KProj)?,
                v: linear(Site::VProj)?,
                o: linear(Site::OProj)?,
                qk_norm,
                rope: own.rope.map(|rope| frequencies.index_of(rope, config.head_dim)),
                window: own.window,
                mlp_norm: norm_layer(&|part| at(Site::PostAttentionNorm, part))?,
                mlp: MlpLayers {
                    activation: kernel(activation),
                    gate,
                    up: linear(Site::UpProj)?,
                    down: linear(Site::DownProj)?,
                },
            });
        }
        let embedding = need(Role::TokenEmbedding)?;
        Ok(Self {
            embedding,
            positions: find(Role::PositionEmbedding),
            final_norm: norm_layer(&Role::FinalNorm)?,
            head: find(Role::Head).unwrap_or(embedding),
            rope_tables: frequencies.tables,
            frozen: vec![false; parameters.len()],
            adapters: Vec::new(),
            active: None,
            model_parameter_count: parameters.len(),
            blocks,
            config,
            parameters,
        })
    }

    /// A decoder with new f32 weights: matrices normal with `initializer_range`, norms one, biases zero. The
    /// same seed gives the same weights on every machine.
    ///
    /// # Errors
    /// When the configuration is inconsistent.
    pub fn initialise(config: DecoderConfig, seed: u64) -> Result<Self, DecoderError> {
        let problems = config.problems();
        if !problems.is_empty() {
            return Err(DecoderError::Config(problems));
        }
        let parameters = parameter_specs(&config)
            .into_iter()
            .enumerate()
            .map(|(index, spec)| {
                let values = initial_values(&spec, &config, seed, index as u64);
                let tensor = Tensor::from_f32(&spec.shape, values)
                    .map_err(|error| DecoderError::Config(vec![error.to_string()]))?;
                Ok(Parameter { spec, tensor })
            })
            .collect::<Result<Vec<_>, DecoderError>>()?;
        Self::new(config, parameters)
    }

    /// Its shape.
    pub fn config(&self) -> &DecoderConfig {
        &self.config
    }

    /// A matrix.
    pub(crate) fn weight(&self, id: ParameterId) -> View<'_> {
        self.parameters[id].tensor.view()
    }

    /// A norm weight or a bias, which are f32 whatever the matrices are.
    pub(crate) fn vector(&self, id: ParameterId) -> &[f32] {
        self.parameters[id].tensor.as_f32().unwrap_or_default()
    }

    /// Prepacks bf16 and quantized weights for the matrix products. The inputs of such layers are then
    /// rounded to bf16, or to 8 bits. For inference, not for training.
    pub fn optimize_for_inference(&mut self) {
        for (id, parameter) in self.parameters.iter_mut().enumerate() {
            // An embedding table is read by rows, and stays as it is.
            let table = (id == self.embedding || Some(id) == self.positions) && id != self.head;
            if parameter.spec.kind == Kind::Matrix
                && !table
                && let Some(packed) = parameter.tensor.packed()
            {
                parameter.tensor = packed;
            }
        }
    }

    /// Prepacks mapped weights ahead of their first use, after [`Self::optimize_for_inference`], on the
    /// calling thread and in the order of use, while `more` returns true. Leaves out the head, which takes as
    /// long as several blocks.
    pub(crate) fn pack_while(&self, more: impl Fn() -> bool) {
        let parameters = self.parameters.iter().enumerate().filter(|(id, _)| *id != self.head);
        for (_, parameter) in parameters.take_while(|_| more()) {
            threads::serial(|| parameter.tensor.pack());
        }
    }

    /// All parameters, in a fixed order.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// The values of parameter `id`, mutable; `None` when they are not owned f32 (see [`Self::to_dtype`]).
    pub fn values_mut(&mut self, id: ParameterId) -> Option<&mut [f32]> {
        self.parameters.get_mut(id)?.tensor.as_f32_mut()
    }

    /// [`Self::values_mut`] for f32 and bf16.
    pub fn elements_mut(&mut self, id: ParameterId) -> Option<ValuesMut<'_>> {
        self.parameters.get_mut(id)?.tensor.values_mut()
    }

    /// Appends parameters.
    pub(crate) fn extend(&mut self, parameters: Vec<Parameter>) {
        self.frozen.resize(self.frozen.len() + parameters.len(), false);
        self.parameters.extend(parameters);
    }

    /// The linear layer at a site of a block.
    pub(crate) fn linear(&self, layer: usize, site: Site) -> Option<LinearLayer> {
        self.blocks.get(layer)?.linear(site)
    }

    /// Whether the inputs of linear layers are kept for the backward pass, which needs them for the weights'
    /// gradients. In bf16 they are small compared with what is kept anyway; in f32 they are cheaper to
    /// recompute.
    pub(crate) fn keeps_inputs(&self, arithmetic: Arithmetic) -> bool {
        let down = self.blocks.first().map(|block| block.mlp.down.weight);
        arithmetic == Arithmetic::Bf16 && down.is_some_and(|weight| self.is_trained(weight))
    }

    /// The model's parameter in this role, which an adapter may replace.
    pub(crate) fn replaceable(&self, role: Role) -> Option<ParameterId> {
        if role == Role::Head {
            return Some(self.head);
        }
        self.model_parameters().iter().position(|parameter| parameter.spec.role == role)
    }

    /// Whether training changes parameter `id`: it then has a gradient and optimizer state.
    pub fn is_trained(&self, id: ParameterId) -> bool {
        self.frozen.get(id) == Some(&false)
    }

    /// Trains the parameters that `chosen` accepts, and freezes the others.
    pub fn train_only(&mut self, chosen: impl Fn(&ParameterSpec) -> bool) {
        self.frozen = self.parameters.iter().map(|parameter| !chosen(&parameter.spec)).collect();
    }

    /// Number of trained parameters, a tied head counted once.
    pub fn trained_count(&self) -> usize {
        let trained = (0..self.parameters.len()).filter(|&id| self.is_trained(id));
        trained.map(|id| self.parameters[id].spec.len()).sum()
    }

    /// A copy with its matrices in `dtype`, all in memory of its own. Norm weights and biases stay f32.
    pub fn to_dtype(&self, dtype: DType) -> Self {
        let mut copy = self.clone();
        for Parameter { spec, tensor } in &mut copy.parameters {
            *tensor = tensor.to_dtype(if spec.kind == Kind::Matrix { dtype } else { DType::F32 });
        }
        copy
    }

    /// Number of parameters, a tied head counted once, those of adapters included.
    pub fn parameter_count(&self) -> usize {
        self.parameters.iter().map(|parameter| parameter.tensor.len()).sum()
    }

    /// The adapters that are attached.
    pub fn adapters(&self) -> &[Adapter] {
        &self.adapters
    }

    /// Chooses the adapter that segments without a choice of their own use. The first adapter that is
    /// attached becomes the active one by itself.
    pub fn activate(&mut self, adapter: Option<AdapterId>) {
        self.active = adapter.filter(|&adapter| adapter < self.adapters.len());
    }

    /// Trains the parameters of `adapter` alone.
    pub fn train_adapter(&mut self, adapter: AdapterId) {
        self.train_only(|spec| spec.owner == Owner::Adapter(adapter));
    }

    /// How many parameters are trained, of how many, as PEFT counts them: an adapter that trains biases
    /// replaces the model's, and each is counted once.
    pub fn trainable_parameters(&self) -> TrainableParameters {
        let copied_bias = |parameter: &&Parameter| {
            parameter.spec.kind == Kind::Bias && parameter.spec.owner != Owner::Model
        };
        let copies: usize = self.parameters.iter().filter(copied_bias).map(|p| p.spec.len()).sum();
        let (trainable, all) = (self.trained_count(), self.parameter_count() - copies);
        TrainableParameters { trainable, all, percent: 100.0 * trainable as f64 / all.max(1) as f64 }
    }

    /// The parameters of the model itself, without those of adapters.
    pub fn model_parameters(&self) -> &[Parameter] {
        &self.parameters[..self.model_parameter_count]
    }
}

/// Parameters that training changes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct TrainableParameters {
    /// Those that it changes.
    pub trainable: usize,
    /// All.
    pub all: usize,
    /// The former in percent of the latter.
    pub percent: f64,
}

fn kernel(activation: Activation) -> activation::Activation {
    match activation {
        Activation::Silu => activation::Activation::Silu,
        Activation::GeluTanh => activation::Activation::GeluTanh,
    }
}
