//! Linear layers whose adapter trains direction and magnitude apart (DoRA, Liu et al., 2024): `y = m / |W + s
//! B A| * (W + s B A) x + b`. The norm of each row is a constant in the backward pass (section 4.3).
//!
//! Under dropout the adapted part sees what is left of the input, and the rest the whole of it, as PEFT
//! computes it.

use parlor_kernels::lora::{column_products, row_norms, scale_columns};
use parlor_kernels::{View, Write, linear};

use super::adapter::LowRank;
use super::gradients::Gradients;
use super::layers::{InputGradient, LinearLayer, OutputGradient};
use super::low_rank;
use super::pass::Pass;

/// Whether an adapter of this pass trains the layer's magnitudes: then this file computes the layer, for all
/// rows.
pub(crate) fn applies(pass: &Pass<'_>, linear: &LinearLayer) -> bool {
    pass.low_rank(linear).any(|(_, update)| update.magnitude.is_some())
}

/// What the rows of an adapted weight are scaled by.
struct Magnitudes {
    /// Per output: the magnitude over the norm of the adapted row.
    ratios: Vec<f32>,
    /// Per output: that norm.
    norms: Vec<f32>,
}

/// The magnitudes of an update; `None` when it is not DoRA's.
fn magnitudes(pass: &Pass<'_>, linear: &LinearLayer, update: &LowRank) -> Option<Magnitudes> {
    let magnitude = pass.decoder.vector(update.magnitude?).get(update.rows.clone())?;
    let b = pass.decoder.vector(update.b).get(update.b_range())?;
    let mut norms = vec![0.0; linear.outputs];
    row_norms(pass.weight(linear.weight), pass.decoder.vector(update.a), b, update.scale, &mut norms);
    let ratios = magnitude.iter().zip(&norms).map(|(magnitude, norm)| magnitude / norm).collect();
    Some(Magnitudes { ratios, norms })
}

/// `x W^T`, without the bias.
fn product(pass: &Pass<'_>, linear: &LinearLayer, x: &[f32]) -> Vec<f32> {
    let rows = x.len() / linear.inputs;
    let mut out = vec![0.0; rows * linear.outputs];
    let shape = linear.shape(pass.arithmetic, rows);
    linear::forward(x, pass.weight(linear.weight), None, &mut out, Write::Replace, shape);
    out
}

/// The layer's output for `x` `[rows, inputs]`, written to `y` `[rows, outputs]` as `write` says.
pub(crate) fn forward(pass: &Pass<'_>, linear: &LinearLayer, x: &[f32], y: &mut [f32], write: Write) {
    let mut out = product(pass, linear, x);
    for projection in low_rank::project(pass, View::F32(x), std::iter::once(linear)) {
        let update = projection.update;
        let out = &mut out[linear.output_range(&projection.rows)];
        match (magnitudes(pass, linear, update), &projection.dropped) {
            (None, _) => projection.add(pass, linear, update, out),
            (Some(magnitudes), None) => {
                projection.add(pass, linear, update, out);
                scale_columns(out, &magnitudes.ratios);
            }
            (Some(magnitudes), Some(dropped)) => {
                let base = product(pass, linear, dropped);
                let mut adapted = base.clone();
                projection.add(pass, linear, update, &mut adapted);
                scale_columns(&mut adapted, &magnitudes.ratios);
                for ((out, adapted), base) in out.iter_mut().zip(&adapted).zip(&base) {
                    *out += adapted - base;
                }
            }
        }
    }
    let bias = linear.bias.map(|id| pass.vector(id));
    for (y, out) in y.chunks_exact_mut(linear.outputs).zip(out.chunks_exact(linear.outputs)) {
        for (j, (y, out)) in y.iter_mut().zip(out).enumerate() {
            let value = out + bias.map_or(0.0, |bias| bias[j]);
            *y = if write == Write::Replace { value } else { *y + value };
        }
    }
}

/// The gradient of the input, and those of the adapters, from the gradient of the output and the forward
/// pass's input `x`.
pub(crate) fn backward(
    pass: &Pass<'_>,
    output: OutputGradient<'_>,
    x: &[f32],
    mut dx: InputGradient<'_>,
    gradients: &mut Gradients,
) {
    let OutputGradient { linear, dy } = output;
    let (linear, dy) = (&linear, &*dy.widened());
    let mut projections = low_rank::project(pass, View::F32(x), std::iter::once(linear));
    // The gradient that reaches the base weight's product with the whole input, and the one that reaches the
    // adapter.
    let (mut d_base, mut d_adapted) = (dy.to_vec(), dy.to_vec());
    // The gradients that go through dropout to the input, by rows.
    let mut masked = Vec::new();
    for projection in &projections {
        let (rows, update) = (projection.rows.clone(), projection.update);
        let (x, dy) = (&x[linear.input_range(&rows)], &dy[linear.output_range(&rows)]);
        let Some(Magnitudes { ratios, norms }) = magnitudes(pass, linear, update) else { continue };
        if let Some(gradient) = update.magnitude.and_then(|id| gradients.get_mut(id)) {
            let mut adapted = product(pass, linear, projection.dropped.as_deref().unwrap_or(x));
            projection.add(pass, linear, update, &mut adapted);
            let mut sums = vec![0.0; linear.outputs];
            column_products(dy, &adapted, &mut sums);
            for ((gradient, sum), norm) in gradient[update.rows.clone()].iter_mut().zip(&sums).zip(&norms) {
                *gradient += sum / norm;
            }
        }
        scale_columns(&mut d_adapted[linear.output_range(&rows)], &ratios);
        match projection.dropout {
            None => scale_columns(&mut d_base[linear.output_range(&rows)], &ratios),
            Some(dropout) => {
                let less: Vec<f32> = ratios.iter().map(|ratio| ratio - 1.0).collect();
                let mut d_dropped = dy.to_vec();
                scale_columns(&mut d_dropped, &less);
                let mut d = vec![0.0; x.len()];
                let shape = linear.shape(pass.arithmetic, rows.len());
                let weight = pass.weight(linear.weight);
                linear::backward_input(&d_dropped, weight, &mut d, Write::Replace, shape);
                masked.push((rows, dropout, d));
            }
        }
    }
    let shape = linear.shape(pass.arithmetic, x.len() / linear.inputs);
    if let Some((dx, write)) = &mut dx {
        linear::backward_input(&d_base, pass.weight(linear.weight), dx, *write, shape);
        for (rows, dropout, d) in masked {
            dropout.apply_backward(&d, &mut dx[linear.input_range(&rows)]);
        }
    }
    let adapted = [OutputGradient { linear: *linear, dy: View::F32(&d_adapted) }];
    low_rank::gradients_of_b(pass, &mut projections, &adapted, gradients);
    low_rank::gradients_of_a(pass, &mut projections, View::F32(x), dx.map(|(dx, _)| dx), gradients);
}
