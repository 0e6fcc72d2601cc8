//! AdamW's state: two f32 moments, named as PyTorch's, or two of a byte each, named as bitsandbytes'.

use bytemuck::cast_slice_mut;
use parlor_kernels::optimizer::{AdamW, Moments8bit, Parameter, adamw, adamw_8bit};
use parlor_kernels::quant::DYNAMIC_MAP_BLOCK;

use super::state::{ParameterState, StateTensor, Step};

/// f32 moments.
#[derive(Clone, Debug)]
pub(super) struct AdamWMoments {
    exp_avg: Vec<f32>,
    exp_avg_sq: Vec<f32>,
}

impl AdamWMoments {
    pub(super) fn new(length: usize) -> Self {
        Self { exp_avg: vec![0.0; length], exp_avg_sq: vec![0.0; length] }
    }
}

fn hyper(step: &Step<'_>) -> AdamW {
    AdamW {
        lr: step.learning_rate,
        beta1: step.rules.beta1,
        beta2: step.rules.beta2,
        eps: step.rules.epsilon,
        weight_decay: step.weight_decay,
        step: step.number,
    }
}

impl ParameterState for AdamWMoments {
    fn update(&mut self, parameter: Parameter<'_>, step: &mut Step<'_>) {
        adamw(parameter, &mut self.exp_avg, &mut self.exp_avg_sq, step.scale, &hyper(step));
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

/// 8-bit moments, and the largest magnitude of each of their blocks.
#[derive(Clone, Debug)]
pub(super) struct AdamWMoments8bit {
    first: Vec<u8>,
    second: Vec<u8>,
    first_max: Vec<f32>,
    second_max: Vec<f32>,
}

impl AdamWMoments8bit {
    pub(super) fn new(length: usize) -> Self {
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
    fn update(&mut self, parameter: Parameter<'_>, step: &mut Step<'_>) {
        let moments = Moments8bit {
            first: &mut self.first,
            second: &mut self.second,
            first_max: &mut self.first_max,
            second_max: &mut self.second_max,
        };
        adamw_8bit(parameter, moments, step.scale, &hyper(step));
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
