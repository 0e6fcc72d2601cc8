//! One gradient per trained parameter, accumulated in place from micro-batch to micro-batch: bf16 for a bf16
//! parameter, f32 otherwise. A frozen parameter has none, so it costs neither memory nor a matrix product.

use std::borrow::Cow;

use half::bf16;
use parlor_kernels::Element;
use parlor_kernels::parallel::threads;
use parlor_kernels::{Arithmetic, DType, Values, ValuesMut, View, Write};

use super::network::Decoder;
use super::parameters::{Parameter, ParameterId};

/// Elements of a parallel task.
const CHUNK: usize = 1 << 16;
/// Elements of a partial sum.
const SUM: usize = 4096;

/// Gradients in the order and shapes of [`Decoder::parameters`].
#[derive(Clone, Debug)]
pub struct Gradients {
    values: Vec<Option<Values>>,
    /// Per parameter: whether its gradient counts as zero whatever its memory holds. The next product that
    /// fills it overwrites it, which saves writing zeros and reading them.
    pending_zero: Vec<bool>,
}

impl Gradients {
    /// Zeros for every trained parameter of `decoder`.
    pub fn zeros(decoder: &Decoder) -> Self {
        let zeros = |(id, parameter): (usize, &Parameter)| {
            let narrow = parameter.tensor.dtype() == DType::Bf16;
            let dtype = if narrow { Arithmetic::Bf16 } else { Arithmetic::F32 };
            decoder.is_trained(id).then(|| Values::zeros(dtype, parameter.spec.len()))
        };
        let values: Vec<_> = decoder.parameters().iter().enumerate().map(zeros).collect();
        Self { pending_zero: vec![false; values.len()], values }
    }

    /// Sets all to zero, keeping the memory.
    pub fn zero(&mut self) {
        for id in 0..self.values.len() {
            self.pending_zero[id] = true;
            self.write_pending_zero(id);
        }
    }

    /// Sets all to zero without writing the zeros: the next backward pass does. Until then they must not be
    /// read.
    pub fn zero_lazily(&mut self) {
        self.pending_zero.fill(true);
    }

    /// Writes the zeros of a gradient that no product has overwritten.
    fn write_pending_zero(&mut self, id: ParameterId) {
        let pending_zero = self.pending_zero.get_mut(id).is_some_and(std::mem::take);
        if let (true, Some(values)) = (pending_zero, self.values.get_mut(id).and_then(Option::as_mut)) {
            values.view_mut().zero();
        }
    }

    /// Ends a backward pass: gradients that it did not fill become zero.
    pub(crate) fn write_pending_zeros(&mut self) {
        (0..self.values.len()).for_each(|id| self.write_pending_zero(id));
    }

    /// The gradient of parameter `id`, converted to f32; `None` when it is frozen or does not exist.
    pub fn get(&self, id: ParameterId) -> Option<Cow<'_, [f32]>> {
        self.view(id).map(View::widened)
    }

    /// The gradient of parameter `id`, unconverted; `None` as in [`Self::get`].
    pub fn view(&self, id: ParameterId) -> Option<View<'_>> {
        self.values.get(id)?.as_ref().map(Values::view)
    }

    /// The gradient of parameter `id`, to accumulate into; `None` as in [`Self::get`].
    pub fn elements_mut(&mut self, id: ParameterId) -> Option<ValuesMut<'_>> {
        self.write_pending_zero(id);
        self.values.get_mut(id)?.as_mut().map(Values::view_mut)
    }

    /// [`Self::elements_mut`] of an f32 gradient, as those of norms, biases and adapters always are; `None`
    /// for others.
    pub fn get_mut(&mut self, id: ParameterId) -> Option<&mut [f32]> {
        self.write_pending_zero(id);
        wide(self.values.get_mut(id)?)
    }

    /// Moves the gradient of parameter `id` out; until it is [`Self::put`] back, the parameter looks frozen.
    pub fn take(&mut self, id: ParameterId) -> Option<Values> {
        self.write_pending_zero(id);
        self.values.get_mut(id)?.take()
    }

    /// The gradient of parameter `id`, and whether the product that fills it overwrites or accumulates.
    pub(crate) fn fill(&mut self, id: ParameterId) -> Option<(ValuesMut<'_>, Write)> {
        let write = self.first_write(id);
        Some((self.values.get_mut(id)?.as_mut()?.view_mut(), write))
    }

    /// [`Self::fill`] that moves the gradient out, as [`Self::take`] does.
    pub(crate) fn take_to_fill(&mut self, id: ParameterId) -> Option<(Values, Write)> {
        let write = self.first_write(id);
        Some((self.values.get_mut(id)?.take()?, write))
    }

    /// Whether the product that fills a gradient next overwrites or accumulates.
    fn first_write(&mut self, id: ParameterId) -> Write {
        let pending_zero = self.pending_zero.get_mut(id).is_some_and(std::mem::take);
        if pending_zero { Write::Replace } else { Write::Accumulate }
    }

    /// Puts back what [`Self::take`] took.
    pub fn put(&mut self, id: ParameterId, values: Values) {
        if let Some(slot) = self.values.get_mut(id) {
            *slot = Some(values);
        }
    }

    /// The gradients of two different f32 parameters at once.
    pub(crate) fn pair_mut(
        &mut self,
        a: ParameterId,
        b: ParameterId,
    ) -> (Option<&mut [f32]>, Option<&mut [f32]>) {
        debug_assert_ne!(a, b);
        self.write_pending_zero(a);
        self.write_pending_zero(b);
        let (low, high) = self.values.split_at_mut(a.max(b));
        let (low, high) = (wide(&mut low[a.min(b)]), wide(&mut high[0]));
        if a < b { (low, high) } else { (high, low) }
    }

    /// The gradients of all trained parameters in f32, in order.
    pub fn iter(&self) -> impl Iterator<Item = (ParameterId, Cow<'_, [f32]>)> {
        (0..self.values.len()).filter_map(|id| Some((id, self.get(id)?)))
    }

    /// Number of parameters, frozen ones included.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there is no parameter.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Euclidean norm over all gradients, summed in f64 in a fixed order. NaN or infinite when an element is.
    pub fn global_norm(&self) -> f64 {
        let all = (0..self.values.len()).filter_map(|id| self.view(id));
        all.map(squares).sum::<f64>().sqrt()
    }

    /// Euclidean norm of one gradient; 0 of a frozen parameter.
    pub fn norm(&self, id: ParameterId) -> f64 {
        self.view(id).map_or(0.0, |values| squares(values).sqrt())
    }
}

/// The gradient, if it is f32.
fn wide(values: &mut Option<Values>) -> Option<&mut [f32]> {
    match values.as_mut()?.view_mut() {
        ValuesMut::F32(values) => Some(values),
        ValuesMut::Bf16(_) => None,
    }
}

fn squares(values: View<'_>) -> f64 {
    match values {
        View::F32(values) => squares_of_all(values),
        View::Bf16(values) => squares_of_all::<bf16>(values),
        other => squares_of_all(&other.widened()[..]),
    }
}

fn squares_of_all<T: Element>(values: &[T]) -> f64 {
    // Chunk sums of a fixed size, added in order: the same result however many threads there are.
    let mut sums = vec![0.0f64; values.len().div_ceil(SUM)];
    threads::for_each_chunk(&mut sums, CHUNK / SUM, |part, first| {
        let values = values[first * SUM..].chunks(SUM);
        for (sum, values) in part.iter_mut().zip(values) {
            *sum = squares_of(values);
        }
    });
    sums.iter().sum()
}

/// Sixteen independent accumulators, so that additions do not wait for each other.
fn squares_of<T: Element>(values: &[T]) -> f64 {
    let (lanes, rest) = values.as_chunks::<16>();
    let mut sums = [0.0f64; 16];
    for lane in lanes {
        for (sum, &g) in sums.iter_mut().zip(lane) {
            *sum += f64::from(g.widen()) * f64::from(g.widen());
        }
    }
    rest.iter().map(|&g| f64::from(g.widen()) * f64::from(g.widen())).chain(sums).sum()
}
