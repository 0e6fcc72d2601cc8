//! Stochastic gradient descent's state: none, or the momentum, named as PyTorch's.

use bytemuck::cast_slice_mut;
use parlor_kernels::optimizer::{Parameter, Sgd, sgd};

use super::state::{ParameterState, StateTensor, Update};

fn hyper(update: &Update<'_>) -> Sgd {
    Sgd { lr: update.learning_rate, momentum: update.rules.momentum, weight_decay: update.weight_decay }
}

/// Without momentum.
#[derive(Clone, Debug)]
pub(super) struct SgdPlain;

impl ParameterState for SgdPlain {
    fn update(&mut self, parameter: Parameter<'_>, update: &mut Update<'_>) {
        sgd(parameter, None, update.scale, &hyper(update));
    }

    fn tensors(&self, _: &[usize]) -> Vec<StateTensor<'_>> {
        Vec::new()
    }

    fn bytes_mut(&mut self) -> Vec<&mut [u8]> {
        Vec::new()
    }
}

/// With momentum.
#[derive(Clone, Debug)]
pub(super) struct SgdMomentum {
    momentum_buffer: Vec<f32>,
}

impl SgdMomentum {
    pub(super) fn new(length: usize) -> Self {
        Self { momentum_buffer: vec![0.0; length] }
    }
}

impl ParameterState for SgdMomentum {
    fn update(&mut self, parameter: Parameter<'_>, update: &mut Update<'_>) {
        sgd(parameter, Some(&mut self.momentum_buffer), update.scale, &hyper(update));
    }

    fn tensors(&self, shape: &[usize]) -> Vec<StateTensor<'_>> {
        vec![StateTensor::f32("momentum_buffer", shape, &self.momentum_buffer)]
    }

    fn bytes_mut(&mut self) -> Vec<&mut [u8]> {
        vec![cast_slice_mut(&mut self.momentum_buffer)]
    }
}
