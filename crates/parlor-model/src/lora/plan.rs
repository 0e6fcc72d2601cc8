//! Plans an adapter: from its configuration to its parameters for a given model, their initial values, and
//! attaching it.

use std::ops::Range;

use parlor_kernels::Tensor;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::modules::{by_pattern, choose, fits_any};
use crate::arch::Architecture;
use crate::config::{AdapterConfig, InitLora};
use crate::decoder::{
    Adapter, AdapterId, AdapterTensor, AdapterTensorKind, Decoder, Factor, Kind, LowRank, Owner, Parameter,
    ParameterId, ParameterSpec, Role, Site, TensorLayout, normal_pair,
};
use crate::error::{LoadErrorKind, ModelLoadError};

/// An adapter's tensors and parameters for a given model.
#[derive(Clone, Debug)]
pub struct AdapterPlan {
    config: AdapterConfig,
    tensors: Vec<AdapterTensor>,
    specs: Vec<ParameterSpec>,
    /// The modules with low-rank factors.
    modules: Vec<PlannedModule>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// A module with low-rank factors.
#[derive(Clone, Debug)]
struct PlannedModule {
    layer: usize,
    /// The linear layers in it, each with its rows of `B`.
    sites: Vec<(Site, Range<usize>)>,
    rank: usize,
    scale: f32,
    /// Its first parameter, counted from the adapter's first.
    first: usize,
}

impl AdapterPlan {
    /// Plans an adapter of `decoder`.
    ///
    /// # Errors
    /// `Incompatible`, with what of the configuration does not fit the model.
    pub fn new(
        decoder: &Decoder,
        architecture: Architecture,
        config: AdapterConfig,
    ) -> Result<Self, ModelLoadError> {
        Self::try_new(decoder, architecture, config).map_err(|what| {
            let help = "correct it, or take another model";
            ModelLoadError::new(LoadErrorKind::Incompatible, "the adapter's configuration", what, help)
        })
    }

    fn try_new(decoder: &Decoder, architecture: Architecture, config: AdapterConfig) -> Result<Self, String> {
        let problems = config.problems();
        if !problems.is_empty() {
            return Err(problems.join("; "));
        }
        let chosen = choose(architecture, decoder.config(), &config)?;
        let owner = Owner::Adapter(decoder.adapters().len());
        let (mut tensors, mut specs, mut modules) = (Vec::new(), Vec::new(), Vec::new());
        let mut push = |name: String, layout, kind, parts: Vec<ParameterSpec>| {
            let first = specs.len();
            specs.extend(parts);
            tensors.push(AdapterTensor { name, layout, parameters: first..specs.len(), kind });
            first
        };
        for module in &chosen.adapted {
            let Some((layer, sites)) = module.linear() else { continue };
            let (mut rows, mut inputs, mut placed) = (0, 0, Vec::new());
            for site in sites {
                let Some(linear) = decoder.linear(layer, site) else { continue };
                placed.push((site, rows..rows + linear.outputs));
                rows += linear.outputs;
                inputs = linear.inputs;
            }
            let Some((first_site, _)) = placed.first().cloned() else { continue };
            let rank = by_pattern("rank_pattern", &config.rank_pattern, &module.path)?.unwrap_or(config.r);
            let alpha = by_pattern("alpha_pattern", &config.alpha_pattern, &module.path)?
                .unwrap_or(config.lora_alpha);
            let spec = |factor, shape| ParameterSpec {
                role: Role::LowRank { layer, site: first_site, factor },
                shape,
                kind: Kind::LowRank,
                owner,
            };
            let name = |factor: Factor, end: &str| format!("{}.{}{end}", module.path, factor.name());
            let a = spec(Factor::A, vec![rank, inputs]);
            let first =
                push(name(Factor::A, ".weight"), TensorLayout::Plain, AdapterTensorKind::LowRank, vec![a]);
            let b = spec(Factor::B, vec![rows, rank]);
            push(name(Factor::B, ".weight"), TensorLayout::Plain, AdapterTensorKind::LowRank, vec![b]);
            if config.use_dora {
                let magnitude = spec(Factor::Magnitude, vec![rows]);
                push(
                    name(Factor::Magnitude, ""),
                    TensorLayout::Plain,
                    AdapterTensorKind::LowRank,
                    vec![magnitude],
                );
            }
            modules.push(PlannedModule {
                layer,
                sites: placed,
                rank,
                scale: config.scale(rank, alpha),
                first,
            });
        }
        for (name, disk) in chosen.own {
            let parts = disk.roles.iter().map(|&role| {
                let id = decoder.replaceable(role)?;
                Some(ParameterSpec { role, owner, ..decoder.parameters()[id].spec.clone() })
            });
            let Some(parts) = parts.collect::<Option<Vec<_>>>() else {
                return Err(format!("the model has no `{name}`"));
            };
            push(name, disk.layout, AdapterTensorKind::Replacement, parts);
        }
        let mut warnings = chosen.warnings;
        let ranks = config.rank_pattern.keys().map(|pattern| ("rank_pattern", pattern));
        for (name, pattern) in
            ranks.chain(config.alpha_pattern.keys().map(|pattern| ("alpha_pattern", pattern)))
        {
            if !fits_any(pattern, &chosen.adapted)? {
                warnings.push(format!(
                    "`{name}` has `{pattern}`, which is none of the modules that get an adapter"
                ));
            }
        }
        Ok(Self { config, tensors, specs, modules, warnings })
    }

    /// The adapter's configuration.
    pub fn config(&self) -> &AdapterConfig {
        &self.config
    }

    /// Its tensors, in order.
    pub fn tensors(&self) -> &[AdapterTensor] {
        &self.tensors
    }

    /// Its parameters, in order.
    pub fn specs(&self) -> &[ParameterSpec] {
        &self.specs
    }

    /// Values of a new adapter, which does not change the model's output: `A` random, `B` zero, magnitudes
    /// equal to the row norms of the weights, replacements equal to the model's parameters.
    pub fn initial_values(&self, decoder: &Decoder, seed: u64) -> Vec<Vec<f32>> {
        let values = |(index, spec): (usize, &ParameterSpec)| match spec.role {
            Role::LowRank { factor: Factor::A, .. } => {
                self.initial_a(spec, seed.wrapping_add(0x6c6f_7261), index as u64)
            }
            Role::LowRank { factor: Factor::B, .. } => vec![0.0; spec.len()],
            Role::LowRank { factor: Factor::Magnitude, layer, .. } => self.magnitudes(decoder, layer, index),
            role => decoder
                .replaceable(role)
                .map_or_else(Vec::new, |id| decoder.parameters()[id].tensor.to_f32_vec()),
        };
        self.specs.iter().enumerate().map(values).collect()
    }

    fn initial_a(&self, spec: &ParameterSpec, seed: u64, stream: u64) -> Vec<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(stream);
        let (rank, inputs) = (spec.shape[0] as f64, spec.shape[1] as f64);
        match self.config.init_lora_weights {
            // Kaiming's uniform with a = sqrt(5) has the bound 1 / sqrt(in).
            InitLora::Default => {
                let bound = 1.0 / inputs.sqrt();
                let mut uniform = || (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
                (0..spec.len()).map(|_| ((2.0 * uniform() - 1.0) * bound) as f32).collect()
            }
            InitLora::Gaussian => {
                let mut values = Vec::with_capacity(spec.len() + 1);
                while values.len() < spec.len() {
                    let (a, b) = normal_pair(&mut rng);
                    values.extend([(a / rank) as f32, (b / rank) as f32]);
                }
                values.truncate(spec.len());
                values
            }
        }
    }

    fn magnitudes(&self, decoder: &Decoder, layer: usize, index: usize) -> Vec<f32> {
        let module = self.modules.iter().find(|module| module.layer == layer && module.first + 2 == index);
        let mut norms = Vec::new();
        for (site, rows) in module.iter().flat_map(|module| &module.sites) {
            if let Some(linear) = decoder.linear(layer, *site) {
                let mut part = vec![0.0; rows.len()];
                parlor_kernels::lora::row_norms(decoder.weight(linear.weight), &[], &[], 0.0, &mut part);
                norms.extend(part);
            }
        }
        norms
    }
}

impl Decoder {
    /// Attaches the planned adapter with these values, one list per specification; the first that is attached
    /// becomes the active one. All its parameters are trained from now on when the model's are; see
    /// [`Decoder::train_adapter`].
    ///
    /// # Errors
    /// `Corrupt` when the values do not match the plan.
    pub fn attach(&mut self, plan: AdapterPlan, values: Vec<Vec<f32>>) -> Result<AdapterId, ModelLoadError> {
        let AdapterPlan { config, tensors, specs, modules, .. } = plan;
        let misfit = |what: String| {
            ModelLoadError::new(LoadErrorKind::Corrupt, "the adapter's values", what, "report this as a bug")
        };
        if specs.len() != values.len() {
            return Err(misfit(format!("{} parameters are given for {}", values.len(), specs.len())));
        }
        let first = self.parameters.len();
        let mut parameters = Vec::with_capacity(specs.len());
        for (spec, values) in specs.into_iter().zip(values) {
            let tensor = Tensor::from_f32(&spec.shape, values).map_err(|error| misfit(error.to_string()))?;
            parameters.push(Parameter { spec, tensor });
        }
        let id = self.adapters.len();
        let mut low_rank = vec![None; self.blocks.len() * Site::COUNT];
        for module in modules {
            let a = first + module.first;
            for (site, rows) in module.sites {
                low_rank[module.layer * Site::COUNT + site as usize] = Some(LowRank {
                    a,
                    b: a + 1,
                    magnitude: config.use_dora.then_some(a + 2),
                    rows,
                    rank: module.rank,
                    scale: module.scale,
                    dropout: config.lora_dropout as f32,
                });
            }
        }
        let mut resolved: Vec<ParameterId> = (0..self.model_parameter_count).collect();
        let mut head = self.head;
        let own = tensors
            .iter()
            .filter(|tensor| tensor.is_replacement())
            .flat_map(|tensor| tensor.parameters.clone());
        for index in own {
            let role = parameters[index].spec.role;
            if role == Role::Head {
                head = first + index;
            } else if let Some(source) = self.replaceable(role) {
                resolved[source] = first + index;
            }
        }
        let end = first + parameters.len();
        self.extend(parameters);
        self.adapters.push(Adapter { config, low_rank, resolved, head, tensors, parameters: first..end });
        if self.active.is_none() {
            self.active = Some(id);
        }
        Ok(id)
    }
}
