//! Which norm a decoder uses, applied: a layer norm has a bias, an RMS norm has none.

use parlor_kernels::ValuesMut;
use parlor_kernels::norm::{self, LayerNormGradients};

use crate::decoder::NormIds;
use crate::decoder_config::Norm;
use crate::gradients::Gradients;
use crate::pass::Pass;
use crate::saved::{NormSaved, room};

/// Normalises `x` `[rows, hidden]` into `y`, keeping what the backward needs.
pub(crate) fn forward(pass: &Pass<'_>, ids: NormIds, x: &[f32], y: ValuesMut<'_>, saved: &mut NormSaved) {
    let weight = pass.vector(ids.weight);
    let rows = x.len() / weight.len();
    let (Norm::Rms { eps } | Norm::Layer { eps }) = pass.decoder.config.norm;
    match ids.bias {
        Some(bias) => {
            saved.moments.resize(rows, norm::RowMoments::default());
            norm::layer_forward(x, (weight, pass.vector(bias)), eps, y, &mut saved.moments);
        }
        None => {
            norm::rms_forward(x, weight, eps, y, room(&mut saved.inverse_rms, rows));
        }
    }
}

/// `dx += ...` and the parameters' gradients.
pub(crate) fn backward(
    pass: &Pass<'_>,
    ids: NormIds,
    (x, saved): (&[f32], &NormSaved),
    dy: &[f32],
    dx: &mut [f32],
    gradients: &mut Gradients,
) {
    let weight = pass.vector(ids.weight);
    match ids.bias {
        Some(bias) => {
            let (dweight, dbias) = gradients.pair_mut(pass.resolve(ids.weight), pass.resolve(bias));
            let parameters = LayerNormGradients { weight: dweight, bias: dbias };
            norm::layer_backward(x, weight, &saved.moments, dy, dx, parameters);
        }
        None => {
            let dweight = gradients.get_mut(pass.resolve(ids.weight));
            norm::rms_backward(x, weight, &saved.inverse_rms, dy, dx, dweight);
        }
    }
}
