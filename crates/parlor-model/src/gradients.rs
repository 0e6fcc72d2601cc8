//! One f32 gradient per parameter, accumulated in place from micro-batch to micro-batch.

use crate::decoder::{Decoder, ParameterId};

/// Gradients in the order and shapes of [`Decoder::parameters`].
#[derive(Clone, Debug)]
pub struct Gradients {
    values: Vec<Vec<f32>>,
}

impl Gradients {
    /// Zeros for every parameter of `decoder`.
    pub fn zeros(decoder: &Decoder) -> Self {
        Self { values: decoder.parameters().iter().map(|p| vec![0.0; p.tensor.len()]).collect() }
    }

    /// Sets all to zero, keeping the memory.
    pub fn zero(&mut self) {
        for values in &mut self.values {
            values.fill(0.0);
        }
    }

    /// The gradient of parameter `id`.
    ///
    /// # Panics
    /// When there is no such parameter.
    pub fn get(&self, id: ParameterId) -> &[f32] {
        &self.values[id]
    }

    /// The gradient of parameter `id`, for accumulation.
    ///
    /// # Panics
    /// When there is no such parameter.
    pub fn get_mut(&mut self, id: ParameterId) -> &mut [f32] {
        &mut self.values[id]
    }

    /// Two different gradients at once.
    pub(crate) fn pair_mut(&mut self, a: ParameterId, b: ParameterId) -> (&mut [f32], &mut [f32]) {
        debug_assert_ne!(a, b);
        let (low, high) = self.values.split_at_mut(a.max(b));
        let (low, high) = (&mut low[a.min(b)][..], &mut high[0][..]);
        if a < b { (low, high) } else { (high, low) }
    }

    /// All gradients in order.
    pub fn iter(&self) -> impl Iterator<Item = &[f32]> {
        self.values.iter().map(Vec::as_slice)
    }

    /// Number of parameters.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there is no parameter.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Euclidean norm over all gradients, summed in f64 in a fixed order. NaN or infinite when an element is.
    pub fn global_norm(&self) -> f64 {
        self.values.iter().map(|values| squares(values)).sum::<f64>().sqrt()
    }

    /// Euclidean norm of one gradient.
    pub fn norm(&self, id: ParameterId) -> f64 {
        squares(&self.values[id]).sqrt()
    }
}

fn squares(values: &[f32]) -> f64 {
    // Chunk sums of a fixed size: the same result however many threads there are.
    values.chunks(4096).map(|chunk| chunk.iter().map(|&g| f64::from(g) * f64::from(g)).sum::<f64>()).sum()
}
