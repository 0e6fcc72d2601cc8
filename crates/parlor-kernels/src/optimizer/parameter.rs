//! A parameter and its gradient, as an update sees them: in f32. bf16 is widened, updated and rounded chunk by chunk,
//! small enough for the cache.

use super::stochastic_rounding::{round_chunk, round_stochastically};
use crate::memory::scratch::{self, ACCUMULATORS, WIDENED_ROWS};
use crate::parallel::threads;
use crate::{ValuesMut, View};

/// Elements of a task.
pub(super) const CHUNK: usize = 32 * 1024;

/// A parameter and its gradient.
#[derive(Debug)]
pub struct Parameter<'a> {
    /// The elements.
    pub values: ValuesMut<'a>,
    /// The gradient of each element.
    pub gradient: View<'a>,
    /// Seed of the [stochastic rounding](round_stochastically) of bf16 elements.
    pub seed: u64,
}

impl<'a> Parameter<'a> {
    /// An f32 parameter with an f32 gradient.
    pub fn f32(values: &'a mut [f32], gradient: &'a [f32]) -> Self {
        Self { values: values.into(), gradient: gradient.into(), seed: 0 }
    }

    /// Number of elements.
    ///
    /// # Panics
    /// When the gradient has another length.
    pub(super) fn checked_len(&self) -> usize {
        assert_eq!(self.gradient.len(), self.values.len(), "lengths of parameter and gradient");
        self.values.len()
    }

    /// Chunks of [`CHUNK`] elements.
    pub(super) fn chunks(self) -> impl Iterator<Item = ParameterChunk<'a>> {
        let Self { values, gradient, seed } = self;
        let len = values.len();
        values.chunks(CHUNK).enumerate().map(move |(index, values)| {
            let first = index * CHUNK;
            let gradient = gradient.slice(first..(first + CHUNK).min(len));
            ParameterChunk { parameter: Parameter { values, gradient, seed }, first }
        })
    }

    /// Calls `update` with all elements and their gradients in f32; `wide` are the buffers for bf16 ones.
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

/// A chunk of a parameter.
pub(super) struct ParameterChunk<'a> {
    parameter: Parameter<'a>,
    /// Index of the chunk's first element in the whole parameter.
    first: usize,
}

impl ParameterChunk<'_> {
    /// Calls `update` with the elements and their gradients in f32.
    pub(super) fn update(self, update: impl FnOnce(&mut [f32], &[f32])) {
        let Self { parameter: Parameter { values, gradient, seed }, first } = self;
        let with_values = |gradient: &[f32]| match values {
            ValuesMut::F32(values) => update(values, gradient),
            ValuesMut::Bf16(values) => scratch::with(&ACCUMULATORS, values.len(), |wide: &mut [f32]| {
                View::Bf16(values).widen_into(wide);
                update(wide, gradient);
                round_chunk(wide, values, seed, first);
            }),
        };
        match gradient {
            View::F32(gradient) => with_values(gradient),
            gradient => scratch::with(&WIDENED_ROWS, gradient.len(), |wide: &mut [f32]| {
                gradient.widen_into(wide);
                with_values(wide);
            }),
        }
    }
}

/// Widens `from` into `to`, resized to its length.
fn widen<'a>(from: View<'_>, to: &'a mut Vec<f32>) -> &'a mut [f32] {
    to.resize(from.len(), 0.0);
    threads::for_each_chunk(to, CHUNK, |to, first| from.slice(first..first + to.len()).widen_into(to));
    to
}
