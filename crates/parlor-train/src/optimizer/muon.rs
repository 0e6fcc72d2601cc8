//! Muon's state: the momentum of a matrix, named as PyTorch's.

use bytemuck::cast_slice_mut;
use parlor_kernels::optimizer::{Muon, Parameter, muon};

use super::state::{ParameterState, StateTensor, Update};

/// The momentum, and the matrix's shape.
#[derive(Clone, Debug)]
pub(super) struct MuonMomentum {
    momentum_buffer: Vec<f32>,
    shape: (usize, usize),
}

impl MuonMomentum {
    pub(super) fn new(rows: usize, columns: usize) -> Self {
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
