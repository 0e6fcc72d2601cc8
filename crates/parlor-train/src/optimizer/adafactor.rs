//! Adafactor's state, named as in transformers: of a matrix a mean per row and per column, of a vector the whole second
//! moment. Parlor's matrices are those of the layers: GPT-2's fused query, key and value count as three.

use bytemuck::cast_slice_mut;
use parlor_kernels::optimizer::{Adafactor, Parameter, adafactor_matrix, adafactor_vector};

use super::state::{ParameterState, StateTensor, Update};

fn hyper(update: &Update<'_>) -> Adafactor {
    Adafactor { lr: update.learning_rate, weight_decay: update.weight_decay, step: update.number }
}

/// That of a matrix.
#[derive(Clone, Debug)]
pub(super) struct AdafactorMatrix {
    rows: Vec<f32>,
    columns: Vec<f32>,
}

impl AdafactorMatrix {
    pub(super) fn new(rows: usize, columns: usize) -> Self {
        Self { rows: vec![0.0; rows], columns: vec![0.0; columns] }
    }
}

impl ParameterState for AdafactorMatrix {
    fn update(&mut self, parameter: Parameter<'_>, update: &mut Update<'_>) {
        let (means, hyper) = ((&mut self.rows[..], &mut self.columns[..]), hyper(update));
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

/// That of a vector.
#[derive(Clone, Debug)]
pub(super) struct AdafactorVector {
    exp_avg_sq: Vec<f32>,
}

impl AdafactorVector {
    pub(super) fn new(length: usize) -> Self {
        Self { exp_avg_sq: vec![0.0; length] }
    }
}

impl ParameterState for AdafactorVector {
    fn update(&mut self, parameter: Parameter<'_>, update: &mut Update<'_>) {
        let hyper = hyper(update);
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
