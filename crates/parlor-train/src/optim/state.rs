//! What each optimizer keeps of one parameter between steps, and how a checkpoint names it.
//!
//! The arithmetic is in `parlor_kernels::optimizer`. The names of the arrays are those of the reference:
//! PyTorch's for AdamW, SGD and Muon, bitsandbytes' for 8-bit AdamW and Lion, transformers' for Adafactor.

use bytemuck::cast_slice_mut;
use parlor_kernels::optimizer::{
    Adafactor, AdamW, AdjustRate, Lion, Moments8bit, Momentum, Muon, MuonScratch, Parameter, Sgd,
    adafactor_matrix, adafactor_vector, adamw, adamw_8bit, lion, muon, sgd,
};
use parlor_kernels::quant::DYNAMIC_MAP_BLOCK;
use parlor_model::{ParameterSpec, Role};
use safetensors::tensor::Dtype;

use crate::config::{AdjustLrFn, Hyperparameters, OptimArgs, OptimizerName};

/// Settings of an optimizer that all parameters share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    beta1: f64,
    beta2: f64,
    epsilon: f64,
    momentum: f64,
    momentum_kind: Momentum,
    ns_steps: u32,
    adjust: AdjustRate,
}

impl Rules {
    pub(super) fn new(optimizer: OptimizerName, args: &OptimArgs, hyper: &Hyperparameters) -> Self {
        let momentum = if optimizer == OptimizerName::Muon { 0.95 } else { 0.0 };
        Self {
            beta1: hyper.adam_beta1,
            beta2: hyper.adam_beta2,
            epsilon: hyper.adam_epsilon,
            momentum: args.momentum.unwrap_or(momentum),
            momentum_kind: if args.nesterov.unwrap_or(true) { Momentum::Nesterov } else { Momentum::Plain },
            ns_steps: args.ns_steps.unwrap_or(5),
            adjust: match args.adjust_lr_fn.unwrap_or_default() {
                AdjustLrFn::Original => AdjustRate::Original,
                AdjustLrFn::MatchRmsAdamw => AdjustRate::MatchRmsAdamW,
            },
        }
    }
}

/// Inputs of one update of one parameter.
pub(super) struct Update<'a> {
    /// Factor of the gradient.
    pub(super) scale: f32,
    pub(super) learning_rate: f64,
    pub(super) weight_decay: f64,
    /// Number of the update, from 1.
    pub(super) number: u64,
    pub(super) rules: &'a Rules,
    pub(super) scratch: &'a mut MuonScratch,
    /// Buffers for a narrow parameter and its gradient in f32.
    pub(super) wide: &'a mut (Vec<f32>, Vec<f32>),
}

/// An array of state, saved as `<parameter>.<name>`.
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

/// What an optimizer keeps of one parameter, and its update.
pub(super) trait ParameterState {
    /// Updates the parameter and the state.
    fn update(&mut self, parameter: Parameter<'_>, update: &mut Update<'_>);

    /// The arrays of the state; `shape` is the parameter's.
    fn tensors(&self, shape: &[usize]) -> Vec<StateTensor<'_>>;

    /// The memory of the same arrays, in the same order.
    fn bytes_mut(&mut self) -> Vec<&mut [u8]>;
}

/// The state of one parameter. Under Muon and 8-bit AdamW some parameters have AdamW's.
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

/// AdamW: moments in f32.
#[derive(Clone, Debug)]
pub(super) struct AdamWMoments {
    exp_avg: Vec<f32>,
    exp_avg_sq: Vec<f32>,
}

impl AdamWMoments {
    fn new(length: usize) -> Self {
        Self { exp_avg: vec![0.0; length], exp_avg_sq: vec![0.0; length] }
    }
}

fn adamw_settings(update: &Update<'_>) -> AdamW {
    AdamW {
        lr: update.learning_rate,
        beta1: update.rules.beta1,
        beta2: update.rules.beta2,
        eps: update.rules.epsilon,
        weight_decay: update.weight_decay,
        step: update.number,
    }
}

impl ParameterState for AdamWMoments {
    fn update(&mut self, parameter: Parameter<'_>, update: &mut Update<'_>) {
        adamw(parameter, &mut self.exp_avg, &mut self.exp_avg_sq, update.scale, &adamw_settings(update));
    }

    fn tensors(&self, shape: &[usize]) -> Vec<StateTensor<'_>> {
        vec![
            StateTensor::f32("exp_avg", shape, &self.exp_avg),
            StateTensor::f32("exp_avg_sq", shape, &self.exp_avg_sq),
        ]
    }

    fn bytes_mut(&mut self) -> Vec<&mut [u8]> {
        vec![cast_slice_mut(&mut self.exp_avg), cast_slice_mut(&mut self.exp_avg_sq)]
    }
}

/// AdamW with 8-bit moments, and the largest magnitude of each of their blocks.
#[derive(Clone, Debug)]
pub(super) struct AdamWMoments8bit {
    first: Vec<u8>,
    second: Vec<u8>,
    first_max: Vec<f32>,
    second_max: Vec<f32>,
}

impl AdamWMoments8bit {
    fn new(length: usize) -> Self {
        let blocks = length.div_ceil(DYNAMIC_MAP_BLOCK);
        Self {
            first: vec![0; length],
            second: vec![0; length],
            first_max: vec![0.0; blocks],
            second_max: vec![0.0; blocks],
        }
    }
}

impl ParameterState for AdamWMoments8bit {
    fn update(&mut self, parameter: Parameter<'_>, update: &mut Update<'_>) {
        let moments = Moments8bit {
            first: &mut self.first,
            second: &mut self.second,
            first_max: &mut self.first_max,
            second_max: &mut self.second_max,
        };
        adamw_8bit(parameter, moments, update.scale, &adamw_settings(update));
    }

    fn tensors(&self, shape: &[usize]) -> Vec<StateTensor<'_>> {
        let blocks = [self.first_max.len()];
        vec![
            StateTensor::u8("state1", shape, &self.first),
            StateTensor::u8("state2", shape, &self.second),
            StateTensor::f32("absmax1", &blocks, &self.first_max),
            StateTensor::f32("absmax2", &blocks, &self.second_max),
        ]
    }

    fn bytes_mut(&mut self) -> Vec<&mut [u8]> {
        vec![
            &mut self.first,
            &mut self.second,
            cast_slice_mut(&mut self.first_max),
            cast_slice_mut(&mut self.second_max),
        ]
    }
}

fn sgd_settings(update: &Update<'_>) -> Sgd {
    Sgd { lr: update.learning_rate, momentum: update.rules.momentum, weight_decay: update.weight_decay }
}

/// Stochastic gradient descent without momentum: no state.
#[derive(Clone, Debug)]
pub(super) struct SgdPlain;

impl ParameterState for SgdPlain {
    fn update(&mut self, parameter: Parameter<'_>, update: &mut Update<'_>) {
        sgd(parameter, None, update.scale, &sgd_settings(update));
    }

    fn tensors(&self, _: &[usize]) -> Vec<StateTensor<'_>> {
        Vec::new()
    }

    fn bytes_mut(&mut self) -> Vec<&mut [u8]> {
        Vec::new()
    }
}

/// Stochastic gradient descent with momentum.
#[derive(Clone, Debug)]
pub(super) struct SgdMomentum {
    momentum_buffer: Vec<f32>,
}

impl SgdMomentum {
    fn new(length: usize) -> Self {
        Self { momentum_buffer: vec![0.0; length] }
    }
}

impl ParameterState for SgdMomentum {
    fn update(&mut self, parameter: Parameter<'_>, update: &mut Update<'_>) {
        sgd(parameter, Some(&mut self.momentum_buffer), update.scale, &sgd_settings(update));
    }

    fn tensors(&self, shape: &[usize]) -> Vec<StateTensor<'_>> {
        vec![StateTensor::f32("momentum_buffer", shape, &self.momentum_buffer)]
    }

    fn bytes_mut(&mut self) -> Vec<&mut [u8]> {
        vec![cast_slice_mut(&mut self.momentum_buffer)]
    }
}

fn adafactor_settings(update: &Update<'_>) -> Adafactor {
    Adafactor { lr: update.learning_rate, weight_decay: update.weight_decay, step: update.number }
}

/// Adafactor for a matrix: a mean second moment per row and per column. Parlor's matrices are those of its
/// layers, so GPT-2's fused query, key and value count as three.
#[derive(Clone, Debug)]
pub(super) struct AdafactorMatrix {
    rows: Vec<f32>,
    columns: Vec<f32>,
}

impl AdafactorMatrix {
    fn new(rows: usize, columns: usize) -> Self {
        Self { rows: vec![0.0; rows], columns: vec![0.0; columns] }
    }
}

impl ParameterState for AdafactorMatrix {
    fn update(&mut self, parameter: Parameter<'_>, update: &mut Update<'_>) {
        let (means, hyper) = ((&mut self.rows[..], &mut self.columns[..]), adafactor_settings(update));
        parameter.in_f32(update.wide, |values, gradient| {
            adafactor_matrix(values, gradient, means, update.scale, &hyper);
        });
    }

    fn tensors(&self, _: &[usize]) -> Vec<StateTensor<'_>> {
        vec![
            StateTensor::f32("exp_avg_sq_row", &[self.rows.len()], &self.rows),
            StateTensor::f32("exp_avg_sq_col", &[self.columns.len()], &self.columns),
        ]
    }

    fn bytes_mut(&mut self) -> Vec<&mut [u8]> {
        vec![cast_slice_mut(&mut self.rows), cast_slice_mut(&mut self.columns)]
    }
}

/// Adafactor for a vector: the whole second moment.
#[derive(Clone, Debug)]
pub(super) struct AdafactorVector {
    exp_avg_sq: Vec<f32>,
}

impl AdafactorVector {
    fn new(length: usize) -> Self {
        Self { exp_avg_sq: vec![0.0; length] }
    }
}

impl ParameterState for AdafactorVector {
    fn update(&mut self, parameter: Parameter<'_>, update: &mut Update<'_>) {
        let hyper = adafactor_settings(update);
        parameter.in_f32(update.wide, |values, gradient| {
            adafactor_vector(values, gradient, &mut self.exp_avg_sq, update.scale, &hyper);
        });
    }

    fn tensors(&self, shape: &[usize]) -> Vec<StateTensor<'_>> {
        vec![StateTensor::f32("exp_avg_sq", shape, &self.exp_avg_sq)]
    }

    fn bytes_mut(&mut self) -> Vec<&mut [u8]> {
        vec![cast_slice_mut(&mut self.exp_avg_sq)]
    }
}

/// Lion: one moment.
#[derive(Clone, Debug)]
pub(super) struct LionMomentum {
    exp_avg: Vec<f32>,
}

impl LionMomentum {
    fn new(length: usize) -> Self {
        Self { exp_avg: vec![0.0; length] }
    }
}

impl ParameterState for LionMomentum {
    fn update(&mut self, parameter: Parameter<'_>, update: &mut Update<'_>) {
        let hyper = Lion {
            lr: update.learning_rate,
            beta1: update.rules.beta1,
            beta2: update.rules.beta2,
            weight_decay: update.weight_decay,
        };
        lion(parameter, &mut self.exp_avg, update.scale, &hyper);
    }

    fn tensors(&self, shape: &[usize]) -> Vec<StateTensor<'_>> {
        vec![StateTensor::f32("exp_avg", shape, &self.exp_avg)]
    }

    fn bytes_mut(&mut self) -> Vec<&mut [u8]> {
        vec![cast_slice_mut(&mut self.exp_avg)]
    }
}

/// Muon: the momentum of a matrix, and its shape.
#[derive(Clone, Debug)]
pub(super) struct MuonMomentum {
    momentum_buffer: Vec<f32>,
    shape: (usize, usize),
}

impl MuonMomentum {
    fn new(rows: usize, columns: usize) -> Self {
        Self { momentum_buffer: vec![0.0; rows * columns], shape: (rows, columns) }
    }
}

impl ParameterState for MuonMomentum {
    fn update(&mut self, parameter: Parameter<'_>, update: &mut Update<'_>) {
        let hyper = Muon {
            lr: update.learning_rate,
            weight_decay: update.weight_decay,
            momentum: update.rules.momentum,
            kind: update.rules.momentum_kind,
            steps: update.rules.ns_steps,
            adjust: update.rules.adjust,
        };
        let buffer = &mut self.momentum_buffer;
        parameter.in_f32(update.wide, |values, gradient| {
            muon(values, gradient, buffer, (self.shape, update.scale), &hyper, update.scratch);
        });
    }

    fn tensors(&self, shape: &[usize]) -> Vec<StateTensor<'_>> {
        vec![StateTensor::f32("momentum_buffer", shape, &self.momentum_buffer)]
    }

    fn bytes_mut(&mut self) -> Vec<&mut [u8]> {
        vec![cast_slice_mut(&mut self.momentum_buffer)]
    }
}
