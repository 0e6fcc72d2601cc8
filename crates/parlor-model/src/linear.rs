//! The one place where a layer's input meets a weight: `y = x W^T + b`, forward and backward.
//!
//! Adapters and quantized weights will join here, and nowhere else.

use parlor_kernels::Write;
use parlor_kernels::linear::{self, Shape};

use crate::decoder::{Decoder, ParameterId};
use crate::gradients::Gradients;

/// A linear layer, by the places of its parameters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Linear {
    pub(crate) weight: ParameterId,
    pub(crate) bias: Option<ParameterId>,
    pub(crate) outputs: usize,
    pub(crate) inputs: usize,
}

impl Linear {
    fn shape(&self, rows: usize) -> Shape {
        Shape { rows, inputs: self.inputs, outputs: self.outputs }
    }

    /// `y (+)= x W^T + b` for `x` `[rows, inputs]`; `y` `[rows, outputs]`.
    pub(crate) fn forward(&self, decoder: &Decoder, x: &[f32], y: &mut [f32], write: Write) {
        let shape = self.shape(x.len() / self.inputs);
        let bias = self.bias.map(|id| decoder.vector(id));
        linear::forward(x, decoder.weight(self.weight), bias, y, write, shape);
    }

    /// `dx (+)= dy W`, and the parameters' gradients from the forward's input `x`.
    pub(crate) fn backward(
        &self,
        decoder: &Decoder,
        x: &[f32],
        dy: &[f32],
        (dx, write): (&mut [f32], Write),
        gradients: &mut Gradients,
    ) {
        let shape = self.shape(x.len() / self.inputs);
        linear::backward_input(dy, decoder.weight(self.weight), dx, write, shape);
        if let Some(gradient) = gradients.get_mut(self.weight) {
            linear::backward_weight(x, dy, gradient, shape);
        }
        if let Some(gradient) = self.bias.and_then(|bias| gradients.get_mut(bias)) {
            linear::backward_bias(dy, gradient);
        }
    }
}
