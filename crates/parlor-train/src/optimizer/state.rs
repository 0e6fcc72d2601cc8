//! What an optimizer keeps of one parameter between steps, and how a checkpoint sees it: named arrays.

use parlor_kernels::optimizer::{MuonScratch, Parameter};
use parlor_model::{ParameterSpec, Role};
use safetensors::tensor::Dtype;

use super::Rules;
use super::adafactor::{AdafactorMatrix, AdafactorVector};
use super::adamw::{AdamWMoments, AdamWMoments8bit};
use super::lion::LionMomentum;
use super::muon::MuonMomentum;
use super::sgd::{SgdMomentum, SgdPlain};
use crate::config::OptimizerName;

/// One update of one parameter.
pub(super) struct Update<'a> {
    /// What the gradient is multiplied by.
    pub(super) scale: f32,
    pub(super) learning_rate: f64,
    pub(super) weight_decay: f64,
    /// Number of the update, from 1.
    pub(super) number: u64,
    pub(super) rules: &'a Rules,
    pub(super) scratch: &'a mut MuonScratch,
    /// For a narrow parameter and its gradient in f32.
    pub(super) wide: &'a mut (Vec<f32>, Vec<f32>),
}

/// An array of state, as it is saved: `<parameter>.<name>`.
pub(super) struct StateTensor<'a> {
    pub(super) name: &'static str,
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
    pub(super) bytes: &'a [u8],
}

impl<'a> StateTensor<'a> {
    pub(super) fn f32(name: &'static str, shape: &[usize], values: &'a [f32]) -> Self {
        Self { name, dtype: Dtype::F32, shape: shape.to_vec(), bytes: bytemuck::cast_slice(values) }
    }

    pub(super) fn u8(name: &'static str, shape: &[usize], bytes: &'a [u8]) -> Self {
        Self { name, dtype: Dtype::U8, shape: shape.to_vec(), bytes }
    }
}

/// An optimizer, as one parameter sees it.
pub(super) trait ParameterState {
    /// Updates the parameter and the state.
    fn update(&mut self, parameter: Parameter<'_>, update: &mut Update<'_>);

    /// The state's arrays; `shape` is the parameter's.
    fn tensors(&self, shape: &[usize]) -> Vec<StateTensor<'_>>;

    /// The same arrays' memory, in the same order.
    fn bytes_mut(&mut self) -> Vec<&mut [u8]>;
}

/// The state of one parameter. Muon and the 8-bit AdamW leave some parameters to AdamW.
#[derive(Clone, Debug)]
pub(super) enum State {
    AdamW(AdamWMoments),
    AdamW8bit(AdamWMoments8bit),
    SgdPlain(SgdPlain),
    SgdMomentum(SgdMomentum),
    AdafactorMatrix(AdafactorMatrix),
    AdafactorVector(AdafactorVector),
    Lion(LionMomentum),
    Muon(MuonMomentum),
}

/// Parameters with fewer elements keep f32 moments under `adamw_8bit`, as in bitsandbytes.
const MIN_8BIT_SIZE: usize = 4096;

impl State {
    /// New state: zeros.
    pub(super) fn new(optimizer: OptimizerName, rules: &Rules, spec: &ParameterSpec) -> Self {
        let length = spec.len();
        match optimizer {
            OptimizerName::AdamwTorch => State::AdamW(AdamWMoments::new(length)),
            OptimizerName::Adamw8bit if length < MIN_8BIT_SIZE => State::AdamW(AdamWMoments::new(length)),
            OptimizerName::Adamw8bit => State::AdamW8bit(AdamWMoments8bit::new(length)),
            OptimizerName::Sgd if rules.momentum == 0.0 => State::SgdPlain(SgdPlain),
            OptimizerName::Sgd => State::SgdMomentum(SgdMomentum::new(length)),
            OptimizerName::Adafactor => match spec.shape[..] {
                [rows, columns] => State::AdafactorMatrix(AdafactorMatrix::new(rows, columns)),
                _ => State::AdafactorVector(AdafactorVector::new(length)),
            },
            OptimizerName::Lion => State::Lion(LionMomentum::new(length)),
            OptimizerName::Muon => match (spec.role, &spec.shape[..]) {
                (Role::Block { .. } | Role::LowRank { .. }, &[rows, columns]) => {
                    State::Muon(MuonMomentum::new(rows, columns))
                }
                _ => State::AdamW(AdamWMoments::new(length)),
            },
        }
    }

    pub(super) fn get(&self) -> &dyn ParameterState {
        match self {
            State::AdamW(state) => state,
            State::AdamW8bit(state) => state,
            State::SgdPlain(state) => state,
            State::SgdMomentum(state) => state,
            State::AdafactorMatrix(state) => state,
            State::AdafactorVector(state) => state,
            State::Lion(state) => state,
            State::Muon(state) => state,
        }
    }

    pub(super) fn get_mut(&mut self) -> &mut dyn ParameterState {
        match self {
            State::AdamW(state) => state,
            State::AdamW8bit(state) => state,
            State::SgdPlain(state) => state,
            State::SgdMomentum(state) => state,
            State::AdafactorMatrix(state) => state,
            State::AdafactorVector(state) => state,
            State::Lion(state) => state,
            State::Muon(state) => state,
        }
    }
}
