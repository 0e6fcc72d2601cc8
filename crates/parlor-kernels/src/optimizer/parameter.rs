//! A parameter on its way through an update. What is not f32 is widened, updated and rounded piece by piece, in a cache.

use super::CHUNK;
use super::stochastic::{round_part, round_stochastically};
use crate::memory::scratch::{self, ROWS, SUMS};
use crate::parallel::threads;
use crate::{ValuesMut, View};

/// A parameter's elements and the gradient of each.
#[derive(Debug)]
pub struct Parameter<'a> {
    /// The elements.
    pub values: ValuesMut<'a>,
    /// As many.
    pub gradient: View<'a>,
    /// What decides how elements that are not f32 are [rounded](round_stochastically).
    pub seed: u64,
}

impl<'a> Parameter<'a> {
    /// One that is f32, as its gradient is.
    pub fn f32(values: &'a mut [f32], gradient: &'a [f32]) -> Self {
        Self { values: values.into(), gradient: gradient.into(), seed: 0 }
    }

    /// Number of elements.
    ///
    /// # Panics
    /// When the gradient has another number of them.
    pub(super) fn checked_len(&self) -> usize {
        assert_eq!(self.gradient.len(), self.values.len(), "lengths of parameter and gradient");
        self.values.len()
    }

    /// Pieces of [`CHUNK`] elements.
    pub(super) fn pieces(self) -> impl Iterator<Item = Piece<'a>> {
        let Self { values, gradient, seed } = self;
        let len = values.len();
        values.chunks(CHUNK).enumerate().map(move |(index, values)| {
            let first = index * CHUNK;
            let gradient = gradient.slice(first..(first + CHUNK).min(len));
            Piece { whole: Parameter { values, gradient, seed }, first }
        })
    }

    /// Calls `update` with all elements and gradients in f32, those that are not through `wide`.
    pub fn in_f32(self, wide: &mut (Vec<f32>, Vec<f32>), update: impl FnOnce(&mut [f32], &[f32])) {
        let (values_wide, gradient_wide) = wide;
        let gradient = match self.gradient {
            View::F32(gradient) => gradient,
            gradient => widen(gradient, gradient_wide),
        };
        match self.values {
            ValuesMut::F32(values) => update(values, gradient),
            ValuesMut::Bf16(values) => {
                let wide = widen(View::Bf16(values), values_wide);
                update(wide, gradient);
                round_stochastically(wide, values, self.seed, 0);
            }
        }
    }
}

/// Some elements of a parameter.
pub(super) struct Piece<'a> {
    whole: Parameter<'a>,
    /// The place of the first.
    first: usize,
}

impl Piece<'_> {
    /// Calls `update` with its elements and gradients in f32.
    pub(super) fn update(self, update: impl FnOnce(&mut [f32], &[f32])) {
        let Self { whole: Parameter { values, gradient, seed }, first } = self;
        let with_values = |gradient: &[f32]| match values {
            ValuesMut::F32(values) => update(values, gradient),
            ValuesMut::Bf16(values) => scratch::with(&SUMS, values.len(), |wide: &mut [f32]| {
                View::Bf16(values).widen_into(wide);
                update(wide, gradient);
                round_part(wide, values, seed, first);
            }),
        };
        match gradient {
            View::F32(gradient) => with_values(gradient),
            gradient => scratch::with(&ROWS, gradient.len(), |wide: &mut [f32]| {
                gradient.widen_into(wide);
                with_values(wide);
            }),
        }
    }
}

fn widen<'a>(from: View<'_>, to: &'a mut Vec<f32>) -> &'a mut [f32] {
    to.resize(from.len(), 0.0);
    threads::share_parts(to, CHUNK, |to, first| from.slice(first..first + to.len()).widen_into(to));
    to
}
