//! One gradient per trained parameter, accumulated in place from micro-batch to micro-batch: f32, or bf16 where the parameter is
//! that. A frozen parameter has none, and so costs neither the memory nor the product that would fill it.

use std::borrow::Cow;

use half::bf16;
use parlor_kernels::Element;
use parlor_kernels::parallel::threads;
use parlor_kernels::{Arithmetic, DType, Values, ValuesMut, View, Write};

use super::network::Decoder;
use super::parameters::{Parameter, ParameterId};

/// Elements of a task, and of a sum.
const CHUNK: usize = 1 << 16;
const SUM: usize = 4096;

/// Gradients in the order and shapes of [`Decoder::parameters`].
#[derive(Clone, Debug)]
pub struct Gradients {
    values: Vec<Option<Values>>,
    /// Those that count as zero whatever their memory holds: the next product that fills one replaces it, which saves
    /// writing zeros and reading them.
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

    /// As [`Self::zero`] before a backward pass, which writes them; until then they must not be read.
    pub fn zero_lazily(&mut self) {
        self.pending_zero.fill(true);
    }

    /// Writes the zeros of one that nothing replaced.
    fn write_pending_zero(&mut self, id: ParameterId) {
        let pending_zero = self.pending_zero.get_mut(id).is_some_and(std::mem::take);
        if let (true, Some(values)) = (pending_zero, self.values.get_mut(id).and_then(Option::as_mut)) {
            values.view_mut().zero();
        }
    }

    /// Ends a backward pass: what it did not fill is zero.
    pub(crate) fn write_pending_zeros(&mut self) {
        (0..self.values.len()).for_each(|id| self.write_pending_zero(id));
    }

    /// The gradient of parameter `id`, in f32; `None` when it is frozen, or there is none of that number.
    pub fn get(&self, id: ParameterId) -> Option<Cow<'_, [f32]>> {
        self.view(id).map(View::widened)
    }

    /// As [`Self::get`], as it is.
    pub fn view(&self, id: ParameterId) -> Option<View<'_>> {
        self.values.get(id)?.as_ref().map(Values::view)
    }

    /// The gradient of parameter `id`, for accumulation; `None` as in [`Self::get`].
    pub fn elements_mut(&mut self, id: ParameterId) -> Option<ValuesMut<'_>> {
        self.write_pending_zero(id);
        self.values.get_mut(id)?.as_mut().map(Values::view_mut)
    }

    /// The same of a parameter that is f32, as a norm's, a bias and a part of an adapter always are; `None` of others.
    pub fn get_mut(&mut self, id: ParameterId) -> Option<&mut [f32]> {
        self.write_pending_zero(id);
        wide(self.values.get_mut(id)?)
    }

    /// Takes the gradient of parameter `id` away; until it is [`Self::put`] back the parameter looks frozen.
    pub fn take(&mut self, id: ParameterId) -> Option<Values> {
        self.write_pending_zero(id);
        self.values.get_mut(id)?.take()
    }

    /// The gradient of parameter `id`, and what a product that fills it does with what it holds.
    pub(crate) fn fill(&mut self, id: ParameterId) -> Option<(ValuesMut<'_>, Write)> {
        let write = self.first_write(id);
        Some((self.values.get_mut(id)?.as_mut()?.view_mut(), write))
    }

    /// As [`Self::fill`], of one that is taken away as by [`Self::take`].
    pub(crate) fn take_to_fill(&mut self, id: ParameterId) -> Option<(Values, Write)> {
        let write = self.first_write(id);
        Some((self.values.get_mut(id)?.take()?, write))
    }

    /// What the product that now fills a gradient does with what it holds.
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

    /// Two different gradients at once, of parameters that are always f32.
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

    /// The gradients that there are, in order, each with its parameter.
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

/// A gradient that is f32.
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

/// Sums side by side, so that the processor need not wait for each addition before the next.
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
