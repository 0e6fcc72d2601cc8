//! Optimizers over a decoder's parameters: which of them decay, and the state that a checkpoint keeps.
//!
//! The arithmetic is in `parlor_kernels::optimizer`. State is f32, named `<role>.exp_avg` and
//! `<role>.exp_avg_sq` after PyTorch's AdamW, in a safetensors file.

use std::path::{Path, PathBuf};

use parlor_kernels::MappedFile;
use parlor_kernels::optimizer::{AdamW, Sgd, adamw, sgd};
use parlor_model::{Decoder, Gradients, Kind, Parameter};
use safetensors::tensor::{Dtype, SafeTensorError, SafeTensors, TensorView, serialize_to_file};

use crate::config::{Hyperparameters, OptimizerName};

/// Moments of one parameter.
#[derive(Clone, Debug, PartialEq)]
struct Moments {
    exp_avg: Vec<f32>,
    exp_avg_sq: Vec<f32>,
}

/// What an optimizer keeps between steps.
#[derive(Clone, Debug, PartialEq)]
enum State {
    /// Per parameter, in the decoder's order; empty of frozen ones.
    AdamW(Vec<Moments>),
    Sgd,
}

/// An optimizer and its state.
#[derive(Clone, Debug)]
pub struct Optimizer {
    state: State,
    beta1: f64,
    beta2: f64,
    epsilon: f64,
    weight_decay: f64,
    /// Updates done.
    step: u64,
}

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
        "parameter `{0}` is not f32 in memory of its own; convert the decoder with `to_dtype(F32)` to train it"
    )]
    Frozen(String),
}

impl Optimizer {
    /// New state for `decoder`: zeros. `name` must be one that [`crate::config::unsupported`] lets pass; any other
    /// acts as AdamW.
    pub fn new(name: OptimizerName, hyper: &Hyperparameters, decoder: &Decoder) -> Self {
        let zeros = || {
            let moments = |length| Moments { exp_avg: vec![0.0; length], exp_avg_sq: vec![0.0; length] };
            let length = |(id, parameter): (usize, &Parameter)| {
                if decoder.is_trained(id) { parameter.spec.len() } else { 0 }
            };
            decoder.parameters().iter().enumerate().map(|parameter| moments(length(parameter))).collect()
        };
        let state = match name {
            OptimizerName::Sgd => State::Sgd,
            _ => State::AdamW(zeros()),
        };
        Self {
            state,
            beta1: hyper.adam_beta1,
            beta2: hyper.adam_beta2,
            epsilon: hyper.adam_epsilon,
            weight_decay: hyper.weight_decay,
            step: 0,
        }
    }

    /// Updates done so far.
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// Bytes of state.
    pub fn bytes(&self) -> usize {
        match &self.state {
            State::AdamW(moments) => moments.iter().map(|m| (m.exp_avg.len() + m.exp_avg_sq.len()) * 4).sum(),
            State::Sgd => 0,
        }
    }

    /// One update: each gradient is multiplied by `scale` (clipping, and one over the step's weight) first.
    ///
    /// # Errors
    /// [`OptimizerError::Frozen`], before anything is changed.
    pub fn update(
        &mut self,
        decoder: &mut Decoder,
        gradients: &Gradients,
        scale: f32,
        learning_rate: f64,
    ) -> Result<(), OptimizerError> {
        for id in 0..decoder.parameters().len() {
            if decoder.is_trained(id) && decoder.values_mut(id).is_none() {
                return Err(OptimizerError::Frozen(decoder.parameters()[id].spec.role.to_string()));
            }
        }
        self.step += 1;
        for id in 0..decoder.parameters().len() {
            let weight_decay = match decoder.parameters()[id].spec.kind {
                Kind::Matrix | Kind::LowRank => self.weight_decay,
                Kind::NormWeight | Kind::Bias => 0.0,
            };
            let Some(gradient) = gradients.get(id) else { continue };
            let Some(values) = decoder.values_mut(id) else { continue };
            match &mut self.state {
                State::AdamW(moments) => {
                    let hyper = AdamW {
                        lr: learning_rate,
                        beta1: self.beta1,
                        beta2: self.beta2,
                        eps: self.epsilon,
                        weight_decay,
                        step: self.step,
                    };
                    let Moments { exp_avg, exp_avg_sq } = &mut moments[id];
                    adamw(values, gradient, exp_avg, exp_avg_sq, scale, &hyper);
                }
                State::Sgd => {
                    let hyper = Sgd { lr: learning_rate, momentum: 0.0, weight_decay };
                    sgd(values, gradient, None, scale, &hyper);
                }
            }
        }
        Ok(())
    }

    /// Writes the state as safetensors.
    ///
    /// # Errors
    /// What the writer says.
    pub fn save(&self, path: &Path, decoder: &Decoder) -> Result<(), SafeTensorError> {
        let mut views = Vec::new();
        if let State::AdamW(moments) = &self.state {
            for (id, (parameter, moments)) in decoder.parameters().iter().zip(moments).enumerate() {
                if !decoder.is_trained(id) {
                    continue;
                }
                for (suffix, values) in [("exp_avg", &moments.exp_avg), ("exp_avg_sq", &moments.exp_avg_sq)] {
                    let bytes = bytemuck::cast_slice(values.as_slice());
                    let view = TensorView::new(Dtype::F32, parameter.spec.shape.clone(), bytes)?;
                    views.push((format!("{}.{suffix}", parameter.spec.role), view));
                }
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
        if let State::AdamW(moments) = &mut self.state {
            for (id, (parameter, moments)) in decoder.parameters().iter().zip(moments).enumerate() {
                if !decoder.is_trained(id) {
                    continue;
                }
                let Moments { exp_avg, exp_avg_sq } = moments;
                for (suffix, values) in [("exp_avg", exp_avg), ("exp_avg_sq", exp_avg_sq)] {
                    let name = format!("{}.{suffix}", parameter.spec.role);
                    let tensor =
                        tensors.tensor(&name).map_err(|_| mismatch(format!("`{name}` is missing")))?;
                    if tensor.dtype() != Dtype::F32 || tensor.shape() != parameter.spec.shape {
                        return Err(mismatch(format!(
                            "`{name}` is {:?} {:?}, expected F32 {:?}",
                            tensor.dtype(),
                            tensor.shape(),
                            parameter.spec.shape
                        )));
                    }
                    for (value, bytes) in values.iter_mut().zip(tensor.data().chunks_exact(4)) {
                        *value = f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
                    }
                    expected += 1;
                }
            }
        }
        if tensors.len() != expected {
            return Err(mismatch(format!("it holds {} tensors, expected {expected}", tensors.len())));
        }
        self.step = step;
        Ok(())
    }
}
