//! Norms of the residual stream, forward and backward, of the kind that the configuration names.

use parlor_kernels::ValuesMut;
use parlor_kernels::norm::{self, LayerNormGradients};

use super::gradients::Gradients;
use super::layers::NormLayer;
use super::pass::Pass;
use super::workspace::{NormStats, resized};

/// Normalises `x` `[rows, hidden]` into `y`, and keeps in `stats` what the backward pass needs.
pub(crate) fn forward(pass: &Pass<'_>, layer: NormLayer, x: &[f32], y: ValuesMut<'_>, stats: &mut NormStats) {
    match layer {
        NormLayer::Layer { eps, weight, bias } => {
            let weight = pass.vector(weight);
            stats.moments.resize(x.len() / weight.len(), norm::RowMoments::default());
            norm::layer_forward(x, (weight, pass.vector(bias)), eps, y, &mut stats.moments);
        }
        NormLayer::Rms { eps, weight } => {
            let weight = pass.vector(weight);
            let rows = x.len() / weight.len();
            norm::rms_forward(x, weight, eps, y, resized(&mut stats.inverse_rms, rows));
        }
    }
}

/// What the backward pass of a norm reads and writes, `[rows, hidden]` each.
pub(crate) struct NormBackward<'a> {
    /// The input of the forward pass.
    pub(crate) x: &'a [f32],
    /// What the forward pass kept.
    pub(crate) stats: &'a NormStats,
    /// The gradient of the output.
    pub(crate) dy: &'a [f32],
    /// The gradient of the input, which is added to.
    pub(crate) dx: &'a mut [f32],
}

/// Adds to the gradient of the input and to those of the parameters.
pub(crate) fn backward(
    pass: &Pass<'_>,
    layer: NormLayer,
    values: NormBackward<'_>,
    gradients: &mut Gradients,
) {
    let NormBackward { x, stats, dy, dx } = values;
    match layer {
        NormLayer::Layer { weight, bias, .. } => {
            let (dweight, dbias) = gradients.pair_mut(pass.resolve(weight), pass.resolve(bias));
            let parameters = LayerNormGradients { weight: dweight, bias: dbias };
            norm::layer_backward(x, pass.vector(weight), &stats.moments, dy, dx, parameters);
        }
        NormLayer::Rms { weight, .. } => {
            let dweight = gradients.get_mut(pass.resolve(weight));
            norm::rms_backward(x, pass.vector(weight), &stats.inverse_rms, dy, dx, dweight);
        }
    }
}
