//! Linear layers whose adapter trains direction and magnitude apart (DoRA, Liu et al., 2024):
//! `y = m / |W + s B A| * (W + s B A) x + b`, the norm of each row held constant in the backward pass (section 4.3).
//!
//! Under dropout the adapted part sees what is left of the input, and the rest the whole of it, as PEFT computes it.

use parlor_kernels::lora::{column_products, row_norms, scale_columns};
use parlor_kernels::{View, Write, linear};

use crate::gradients::Gradients;
use crate::linear::{Linear, Sink};
use crate::lora::{LowRank, factors};
use crate::pass::Pass;

impl Linear {
    /// Per output: the magnitude over the norm of the adapted row, and that norm.
    fn magnitudes(&self, pass: &Pass<'_>, at: &LowRank) -> Option<(Vec<f32>, Vec<f32>)> {
        let magnitude = pass.decoder.vector(at.magnitude?).get(at.rows.clone())?;
        let factors = at.rows.start * at.rank..at.rows.end * at.rank;
        let b = pass.decoder.vector(at.b).get(factors)?;
        let mut norms = vec![0.0; self.outputs];
        row_norms(pass.weight(self.weight), pass.decoder.vector(at.a), b, at.scale, &mut norms);
        Some((magnitude.iter().zip(&norms).map(|(magnitude, norm)| magnitude / norm).collect(), norms))
    }

    /// `x W^T`, without the bias.
    fn product(&self, pass: &Pass<'_>, x: &[f32]) -> Vec<f32> {
        let rows = x.len() / self.inputs;
        let mut out = vec![0.0; rows * self.outputs];
        linear::forward(x, pass.weight(self.weight), None, &mut out, Write::Replace, self.shape(pass, rows));
        out
    }

    pub(crate) fn dora_forward(&self, pass: &Pass<'_>, x: &[f32], y: &mut [f32], write: Write) {
        let mut out = self.product(pass, x);
        for factors in factors::project(pass, View::F32(x), std::iter::once(self)) {
            let at = (self, factors.at);
            let out = &mut out[self.outside(&factors.rows)];
            match (self.magnitudes(pass, factors.at), &factors.kept) {
                (None, _) => factors.add(pass, at, out),
                (Some((ratio, _)), None) => {
                    factors.add(pass, at, out);
                    scale_columns(out, &ratio);
                }
                (Some((ratio, _)), Some(kept)) => {
                    let base = self.product(pass, kept);
                    let mut adapted = base.clone();
                    factors.add(pass, at, &mut adapted);
                    scale_columns(&mut adapted, &ratio);
                    for ((out, adapted), base) in out.iter_mut().zip(&adapted).zip(&base) {
                        *out += adapted - base;
                    }
                }
            }
        }
        let bias = self.bias.map(|id| pass.vector(id));
        for (y, out) in y.chunks_exact_mut(self.outputs).zip(out.chunks_exact(self.outputs)) {
            for (j, (y, out)) in y.iter_mut().zip(out).enumerate() {
                let value = out + bias.map_or(0.0, |bias| bias[j]);
                *y = if write == Write::Replace { value } else { *y + value };
            }
        }
    }

    pub(crate) fn dora_backward(
        &self,
        pass: &Pass<'_>,
        x: &[f32],
        dy: &[f32],
        mut dx: Sink<'_>,
        gradients: &mut Gradients,
    ) {
        let mut projections = factors::project(pass, View::F32(x), std::iter::once(self));
        // The gradient that reaches the base weight's product with the whole input, and the one that reaches the adapter.
        let (mut d_base, mut d_adapted) = (dy.to_vec(), dy.to_vec());
        // What dropout lets through to the input, by rows.
        let mut masked = Vec::new();
        for factors in &projections {
            let (rows, at) = (factors.rows.clone(), factors.at);
            let (x, dy) = (&x[self.inside(&rows)], &dy[self.outside(&rows)]);
            let Some((ratio, norms)) = self.magnitudes(pass, at) else { continue };
            if let Some(gradient) = at.magnitude.and_then(|id| gradients.get_mut(id)) {
                let mut adapted = self.product(pass, factors.kept.as_deref().unwrap_or(x));
                factors.add(pass, (self, at), &mut adapted);
                let mut sums = vec![0.0; self.outputs];
                column_products(dy, &adapted, &mut sums);
                for ((gradient, sum), norm) in gradient[at.rows.clone()].iter_mut().zip(&sums).zip(&norms) {
                    *gradient += sum / norm;
                }
            }
            scale_columns(&mut d_adapted[self.outside(&rows)], &ratio);
            match factors.dropout {
                None => scale_columns(&mut d_base[self.outside(&rows)], &ratio),
                Some(dropout) => {
                    let less: Vec<f32> = ratio.iter().map(|ratio| ratio - 1.0).collect();
                    let mut d_kept = dy.to_vec();
                    scale_columns(&mut d_kept, &less);
                    let mut d = vec![0.0; x.len()];
                    let shape = self.shape(pass, rows.len());
                    linear::backward_input(&d_kept, pass.weight(self.weight), &mut d, Write::Replace, shape);
                    masked.push((rows, dropout, d));
                }
            }
        }
        let shape = self.shape(pass, x.len() / self.inputs);
        if let Some((dx, write)) = &mut dx {
            linear::backward_input(&d_base, pass.weight(self.weight), dx, *write, shape);
            for (rows, dropout, d) in masked {
                dropout.apply_backward(&d, &mut dx[self.inside(&rows)]);
            }
        }
        factors::gradients_of_b(pass, &mut projections, &[(*self, View::F32(&d_adapted))], gradients);
        factors::gradients_of_a(pass, &mut projections, View::F32(x), dx.map(|(dx, _)| dx), gradients);
    }
}
