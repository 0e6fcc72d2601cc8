//! Lion's state: one moment.

use bytemuck::cast_slice_mut;
use parlor_kernels::optimizer::{Lion, Parameter, lion};

use super::state::{ParameterState, StateTensor, Update};

/// The moment.
#[derive(Clone, Debug)]
pub(super) struct LionMomentum {
    exp_avg: Vec<f32>,
}

impl LionMomentum {
    pub(super) fn new(length: usize) -> Self {
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
