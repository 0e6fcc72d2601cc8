//! The decoder: parameters and where each block finds them. Its passes are in `forward.rs` and `backward.rs`.

use parlor_kernels::parallel::threads;
use parlor_kernels::{DType, Tensor, ValuesMut, View};

use crate::decoder_config::DecoderConfig;
use crate::initialise::initial_values;
use crate::linear::Linear;
use crate::lora::{Adapter, AdapterId};
use crate::parameter::{Kind, ParameterSpec, Part, Role, Site, parameter_specs};

/// One parameter: what it is, and its numbers.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// Role, shape and kind.
    pub spec: ParameterSpec,
    /// The numbers, in `spec.shape`.
    pub tensor: Tensor,
}

/// Index of a parameter within [`Decoder::parameters`].
pub type ParameterId = usize;

/// A normalisation layer's parameters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NormIds {
    pub(crate) weight: ParameterId,
    pub(crate) bias: Option<ParameterId>,
}

/// Where one block's parameters are.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    pub(crate) input_norm: NormIds,
    pub(crate) q: Linear,
    pub(crate) k: Linear,
    pub(crate) v: Linear,
    pub(crate) o: Linear,
    pub(crate) q_norm: Option<ParameterId>,
    pub(crate) k_norm: Option<ParameterId>,
    pub(crate) mlp_norm: NormIds,
    pub(crate) gate: Option<Linear>,
    pub(crate) up: Linear,
    pub(crate) down: Linear,
}

/// Why a decoder could not be assembled.
#[derive(Debug, thiserror::Error)]
pub enum DecoderError {
    /// The configuration contradicts itself.
    #[error("the model's configuration is inconsistent: {}", .0.join("; "))]
    Config(Vec<String>),
    /// The parameters are not those of the configuration.
    #[error(
        "parameter {index} should be `{expected}` {expected_shape:?}, but `{found}` {found_shape:?} was given"
    )]
    Parameters {
        /// Place in the list.
        index: usize,
        /// Role expected there.
        expected: String,
        /// Shape expected there.
        expected_shape: Vec<usize>,
        /// Role found there.
        found: String,
        /// Shape found there.
        found_shape: Vec<usize>,
    },
    /// There are too few or too many.
    #[error("{expected} parameters are needed, but {found} were given")]
    Count {
        /// Number needed.
        expected: usize,
        /// Number given.
        found: usize,
    },
    /// A batch that this decoder cannot run.
    #[error("{0}")]
    Batch(String),
    /// The activations of a pass have no room.
    #[error("memory ran out: a pass over {tokens} tokens needs {} MiB of activations", .bytes.div_ceil(1 << 20))]
    OutOfMemory {
        /// Tokens in the batch.
        tokens: usize,
        /// Bytes of all its activations.
        bytes: u64,
    },
}

/// A decoder-only transformer.
#[derive(Clone, Debug)]
pub struct Decoder {
    pub(crate) config: DecoderConfig,
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) embedding: ParameterId,
    pub(crate) positions: Option<ParameterId>,
    pub(crate) blocks: Vec<Block>,
    pub(crate) final_norm: NormIds,
    pub(crate) head: ParameterId,
    pub(crate) inv_freq: Vec<f32>,
    /// Per parameter: whether training leaves it as it is.
    frozen: Vec<bool>,
    pub(crate) adapters: Vec<Adapter>,
    pub(crate) active: Option<AdapterId>,
    /// Parameters before those of adapters.
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
        let mut blocks = Vec::with_capacity(config.num_hidden_layers);
        for layer in 0..config.num_hidden_layers {
            let at = |site, part| Role::Block { layer, site, part };
            let norm = |site| {
                Ok::<_, DecoderError>(NormIds {
                    weight: need(at(site, Part::Weight))?,
                    bias: find(at(site, Part::Bias)),
                })
            };
            let linear = |site| {
                let weight = need(at(site, Part::Weight))?;
                let shape = &specs[weight].shape;
                Ok::<_, DecoderError>(Linear {
                    layer,
                    site,
                    weight,
                    bias: find(at(site, Part::Bias)),
                    outputs: shape[0],
                    inputs: shape[1],
                })
            };
            blocks.push(Block {
                input_norm: norm(Site::InputNorm)?,
                q: linear(Site::QProj)?,
                k: linear(Site::KProj)?,
                v: linear(Site::VProj)?,
                o: linear(Site::OProj)?,
                q_norm: find(at(Site::QNorm, Part::Weight)),
                k_norm: find(at(Site::KNorm, Part::Weight)),
                mlp_norm: norm(Site::PostAttentionNorm)?,
                gate: find(at(Site::GateProj, Part::Weight)).map(|_| linear(Site::GateProj)).transpose()?,
                up: linear(Site::UpProj)?,
                down: linear(Site::DownProj)?,
            });
        }
        let embedding = need(Role::TokenEmbedding)?;
        Ok(Self {
            embedding,
            positions: find(Role::PositionEmbedding),
            final_norm: NormIds {
                weight: need(Role::FinalNorm(Part::Weight))?,
                bias: find(Role::FinalNorm(Part::Bias)),
            },
            head: find(Role::Head).unwrap_or(embedding),
            inv_freq: crate::rope_frequencies::inverse_frequencies(&config),
            frozen: vec![false; parameters.len()],
            adapters: Vec::new(),
            active: None,
            model_parameter_count: parameters.len(),
            blocks,
            config,
            parameters,
        })
    }

    /// A decoder with new f32 weights: matrices normal with `initializer_range`, norms one, biases zero; the
    /// same for the same seed on every machine.
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

    /// The shape.
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

    /// Puts weights of bf16 and of few bits into the order in which their products read them, one after the other: the inputs
    /// of such layers are rounded to bf16, or to 8 bits, from then on. For answering, not for training.
    pub fn optimize_for_inference(&mut self) {
        for (id, parameter) in self.parameters.iter_mut().enumerate() {
            // A table that rows are looked up in is best left as it is.
            let table = (id == self.embedding || Some(id) == self.positions) && id != self.head;
            if parameter.spec.kind == Kind::Matrix
                && !table
                && let Some(packed) = parameter.tensor.packed()
            {
                parameter.tensor = packed;
            }
        }
    }

    /// Packs weights of [`Self::optimize_for_inference`] that wait in a file, on the calling thread, in the order of their use, as
    /// long as `more` says so before each. The head is left: it takes as long as several blocks.
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

    /// The numbers of parameter `id` for writing; `None` when they are not owned f32 (see [`Self::to_dtype`]).
    pub fn values_mut(&mut self, id: ParameterId) -> Option<&mut [f32]> {
        self.parameters.get_mut(id)?.tensor.as_f32_mut()
    }

    /// As [`Self::values_mut`], where they may be bf16 too.
    pub fn elements_mut(&mut self, id: ParameterId) -> Option<ValuesMut<'_>> {
        self.parameters.get_mut(id)?.tensor.values_mut()
    }

    /// Adds parameters after those that there are.
    pub(crate) fn extend(&mut self, parameters: Vec<Parameter>) {
        self.frozen.resize(self.frozen.len() + parameters.len(), false);
        self.parameters.extend(parameters);
    }

    /// The linear layer at a site of a block.
    pub(crate) fn linear(&self, layer: usize, site: Site) -> Option<Linear> {
        let block = self.blocks.get(layer)?;
        match site {
            Site::QProj => Some(block.q),
            Site::KProj => Some(block.k),
            Site::VProj => Some(block.v),
            Site::OProj => Some(block.o),
            Site::GateProj => block.gate,
            Site::UpProj => Some(block.up),
            Site::DownProj => Some(block.down),
            _ => None,
        }
    }

    /// The model's parameter of which an adapter may have its own version in this role.
    pub(crate) fn own_source(&self, role: Role) -> Option<ParameterId> {
        if role == Role::Head {
            return Some(self.head);
        }
        self.model_parameters().iter().position(|parameter| parameter.spec.role == role)
    }

    /// Whether training changes parameter `id`: it then has a gradient and optimizer state.
    pub fn is_trained(&self, id: ParameterId) -> bool {
        self.frozen.get(id) == Some(&false)
    }

    /// Trains the parameters that `chosen` names, and freezes the others.
    pub fn train_only(&mut self, chosen: impl Fn(&ParameterSpec) -> bool) {
        self.frozen = self.parameters.iter().map(|parameter| !chosen(&parameter.spec)).collect();
    }

    /// Number of trained parameters, a tied head counted once.
    pub fn trained_count(&self) -> usize {
        let trained = (0..self.parameters.len()).filter(|&id| self.is_trained(id));
        trained.map(|id| self.parameters[id].spec.len()).sum()
    }

    /// The same decoder with its matrices in `dtype` (norm weights and biases stay f32), all in memory of its
    /// own.
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
}
