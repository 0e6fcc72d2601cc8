//! Optimizers over a decoder's trained parameters, and the state that a checkpoint keeps.
//!
//! In a checkpoint the arrays are named `<parameter>.<array>` (`layers.0.q_proj.weight.exp_avg`) in a
//! safetensors file.

mod groups;
mod state;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use parlor_kernels::MappedFile;
use parlor_kernels::optimizer::{MuonScratch, Parameter};
use parlor_model::{Decoder, Gradients, ParameterId};
use safetensors::tensor::{SafeTensorError, SafeTensors, TensorView, serialize_to_file};

use groups::Rates;
pub(crate) use groups::rates;
use state::{Rules, State, Update};

use crate::config::{Hyperparameters, OptimizerName, Problem, TrainingConfig};
use crate::distributed::{Collective, Shards};

/// A trained parameter's state and rates.
#[derive(Clone, Debug)]
struct TrainedParameter {
    state: State,
    rates: Rates,
}

/// An optimizer and its state.
#[derive(Clone, Debug)]
pub struct Optimizer {
    /// By parameter, in the decoder's order; none for frozen parameters and for those of other ranks.
    parameters: Vec<Option<TrainedParameter>>,
    kind: OptimizerName,
    rules: Rules,
    shards: Shards,
    scratch: MuonScratch,
    /// Buffers for a narrow parameter and its gradient in f32.
    wide: (Vec<f32>, Vec<f32>),
    /// Updates done.
    step: u64,
}

/// States of parameters that other ranks keep.
#[derive(Clone, Debug, Default)]
pub struct OtherStates(HashMap<ParameterId, State>);

/// Why optimizer state could not be read, or an update could not be made.
#[derive(Debug, thiserror::Error)]
pub enum OptimizerError {
    /// The file cannot be read.
    #[error("cannot read the optimizer state {path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is not valid safetensors.
    #[error("the optimizer state {path} is damaged: {source}", path = path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: SafeTensorError,
    },
    /// The file is of another model or optimizer.
    #[error("the optimizer state {path} does not fit the model: {what}", path = path.display())]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// Which tensor, what was expected and what was found.
        what: String,
    },
    /// A parameter cannot be written.
    #[error(
        "parameter `{0}` is not f32 or bf16 in memory of its own; convert the decoder with `to_dtype` to train it"
    )]
    Frozen(String),
}

impl Optimizer {
    /// New state for the trained parameters of `decoder`: zeros.
    ///
    /// # Errors
    /// A group of `training.param_groups` that no parameter belongs to.
    pub fn new(
        training: &TrainingConfig,
        hyper: &Hyperparameters,
        decoder: &Decoder,
    ) -> Result<Self, Problem> {
        Self::sharded(training, hyper, decoder, Shards::default())
    }

    /// The same with state for this rank's share of the parameters only.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub(crate) fn sharded(
        training: &TrainingConfig,
        hyper: &Hyperparameters,
        decoder: &Decoder,
        shards: Shards,
    ) -> Result<Self, Problem> {
        let rules = Rules::new(training.optimizer, &training.optim_args, hyper);
        let rates = rates(training, hyper, decoder)?;
        let trained = |(id, rates): (usize, Rates)| {
            let spec = &decoder.parameters()[id].spec;
            let own = decoder.is_trained(id) && shards.is_own(id);
            own.then(|| TrainedParameter { state: State::new(training.optimizer, &rules, spec), rates })
        };
        let parameters = rates.into_iter().enumerate().map(trained).collect();
        let kind = training.optimizer;
        let (scratch, wide) = (MuonScratch::default(), <(Vec<f32>, Vec<f32>)>::default());
        Ok(Self { parameters, kind, rules, shards, scratch, wide, step: 0 })
    }

    /// Bytes of this rank's state and of the scratch of an update.
    pub(crate) fn bytes_for(
        training: &TrainingConfig,
        hyper: &Hyperparameters,
        decoder: &Decoder,
        shards: &Shards,
    ) -> u64 {
        let rules = Rules::new(training.optimizer, &training.optim_args, hyper);
        let (mut state, mut scratch) = (0, 0);
        for (id, parameter) in decoder.parameters().iter().enumerate() {
            let (spec, own) = (&parameter.spec, decoder.is_trained(id) && shards.is_own(id));
            if own {
                // Zeroed memory that is never touched takes no pages.
                let one = State::new(training.optimizer, &rules, spec);
                state +=
                    one.get().tensors(&spec.shape).iter().map(|tensor| tensor.bytes.len()).sum::<usize>();
                if let (State::Muon(_), &[rows, columns]) = (&one, &spec.shape[..]) {
                    let gram = rows.min(columns).pow(2);
                    scratch = scratch.max((2 * rows * columns + 2 * gram) * size_of::<f32>());
                }
            }
        }
        (state + scratch) as u64
    }

    /// Updates done so far.
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// Bytes of state.
    pub fn bytes(&self) -> usize {
        let bytes = |trained: &TrainedParameter| {
            trained.state.get().tensors(&[]).iter().map(|tensor| tensor.bytes.len()).sum::<usize>()
        };
        self.parameters.iter().flatten().map(bytes).sum()
    }

    /// One update. `scale` multiplies each gradient (clipping, and one over the step's weight), `factor` each
    /// parameter's learning rate (the schedule).
    ///
    /// # Errors
    /// [`OptimizerError::Frozen`], before anything is changed.
    pub fn update(
        &mut self,
        decoder: &mut Decoder,
        gradients: &Gradients,
        scale: f32,
        factor: f64,
    ) -> Result<(), OptimizerError> {
        for id in 0..decoder.parameters().len() {
            if decoder.is_trained(id) && decoder.elements_mut(id).is_none() {
                return Err(OptimizerError::Frozen(decoder.parameters()[id].spec.role.to_string()));
            }
        }
        self.step += 1;
        for (id, trained) in self.parameters.iter_mut().enumerate() {
            let (Some(TrainedParameter { state, rates }), Some(gradient)) = (trained, gradients.view(id))
            else {
                continue;
            };
            let Some(values) = decoder.elements_mut(id) else { continue };
            let mut update = Update {
                scale,
                learning_rate: rates.learning_rate * factor,
                weight_decay: rates.weight_decay,
                number: self.step,
                rules: &self.rules,
                scratch: &mut self.scratch,
                wide: &mut self.wide,
            };
            let parameter = Parameter { values, gradient, seed: self.step << 32 | id as u64 };
            state.get_mut().update(parameter, &mut update);
        }
        Ok(())
    }

    /// Broadcasts each parameter from the rank that updated it.
    pub(crate) fn share_parameters(&self, decoder: &mut Decoder, collective: &dyn Collective) {
        for id in 0..self.parameters.len() {
            if decoder.is_trained(id)
                && let Some(values) = decoder.elements_mut(id)
            {
                collective.broadcast(self.shards.owner(id), values.bytes_mut());
            }
        }
    }

    /// Gathers the states of other ranks on rank 0, for a checkpoint; empty on the others. Collective: every
    /// rank must call it.
    pub(crate) fn gather(&self, decoder: &Decoder, collective: &dyn Collective) -> OtherStates {
        let mut others = OtherStates::default();
        if collective.world_size() == 1 {
            return others;
        }
        for (id, parameter) in
            decoder.parameters().iter().enumerate().filter(|(id, _)| decoder.is_trained(*id))
        {
            let mut state = match self.parameters.get(id) {
                Some(Some(trained)) => trained.state.clone(),
                _ => State::new(self.kind, &self.rules, &parameter.spec),
            };
            let owner = self.shards.owner(id);
            state.get_mut().bytes_mut().into_iter().for_each(|bytes| collective.broadcast(owner, bytes));
            if collective.rank() == 0 && owner != 0 {
                others.0.insert(id, state);
            }
        }
        others
    }

    /// Writes this rank's states and `others` as safetensors.
    ///
    /// # Errors
    /// What the writer says.
    pub fn save(&self, path: &Path, decoder: &Decoder, others: &OtherStates) -> Result<(), SafeTensorError> {
        let mut views = Vec::new();
        for (id, (parameter, trained)) in decoder.parameters().iter().zip(&self.parameters).enumerate() {
            let own = trained.as_ref().map(|trained| &trained.state);
            let Some(state) = own.or_else(|| others.0.get(&id)) else { continue };
            for tensor in state.get().tensors(&parameter.spec.shape) {
                let view = TensorView::new(tensor.dtype, tensor.shape, tensor.bytes)?;
                views.push((format!("{}.{}", parameter.spec.role, tensor.name), view));
            }
        }
        serialize_to_file(views, None, path)
    }

    /// Reads the state that [`Self::save`] wrote after `step` updates.
    ///
    /// # Errors
    /// When the file cannot be read, is damaged, or does not hold exactly this state's tensors.
    pub fn load(&mut self, path: &Path, decoder: &Decoder, step: u64) -> Result<(), OptimizerError> {
        let read = |source| OptimizerError::Read { path: path.to_owned(), source };
        let format = |source| OptimizerError::Format { path: path.to_owned(), source };
        let mismatch = |what| OptimizerError::Mismatch { path: path.to_owned(), what };
        let file = MappedFile::open(path).map_err(read)?;
        let tensors = SafeTensors::deserialize(file.bytes()).map_err(format)?;
        let mut expected = 0;
        for (id, (parameter, trained)) in decoder.parameters().iter().zip(&mut self.parameters).enumerate() {
            if !decoder.is_trained(id) {
                continue;
            }
            // States of other ranks are checked too: if one rank refused the file, the others would wait for it.
            let mut of_other = None;
            let state = match trained {
                Some(trained) => &mut trained.state,
                None => of_other.insert(State::new(self.kind, &self.rules, &parameter.spec)),
            };
            let mut found = Vec::new();
            for wanted in state.get().tensors(&parameter.spec.shape) {
                let name = format!("{}.{}", parameter.spec.role, wanted.name);
                let tensor = tensors.tensor(&name).map_err(|_| mismatch(format!("`{name}` is missing")))?;
                if tensor.dtype() != wanted.dtype || tensor.shape() != wanted.shape {
                    return Err(mismatch(format!(
                        "`{name}` is {:?} {:?}, expected {:?} {:?}",
                        tensor.dtype(),
                        tensor.shape(),
                        wanted.dtype,
                        wanted.shape
                    )));
                }
                found.push(tensor);
            }
            expected += found.len();
            for (bytes, tensor) in state.get_mut().bytes_mut().into_iter().zip(found) {
                bytes.copy_from_slice(tensor.data());
            }
        }
        if tensors.len() != expected {
            return Err(mismatch(format!("it holds {} tensors, expected {expected}", tensors.len())));
        }
        self.step = step;
        Ok(())
    }
}
