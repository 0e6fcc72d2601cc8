//! Activations of the MLP, forward and backward: SiLU and tanh-GELU, gated (`act(gate) * up`) or plain.
//!
//! Inputs, output and gradients have one dtype: f32, or bf16 where only bf16 products read them. Arithmetic is in f32.

use crate::cpu::simd::{Element, dispatch, exp};
use crate::memory::{ValuesMut, View};
use crate::parallel::ParallelExt as _;

/// The nonlinearity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x * sigmoid(x)`.
    Silu,
    /// `0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))`.
    GeluTanh,
}

/// Elements of a task.
const CHUNK: usize = 16 * 1024;

/// An activation, as a type, so that each has a loop compiled for it.
trait Evaluate {
    /// Value and derivative at `x`.
    fn evaluate(x: f32) -> (f32, f32);
}

struct Silu;

impl Evaluate for Silu {
    #[inline(always)]
    fn evaluate(x: f32) -> (f32, f32) {
        let sigmoid = 1.0 / (1.0 + exp(-x));
        let value = x * sigmoid;
        (value, sigmoid * (1.0 + x - value))
    }
}

struct GeluTanh;

impl Evaluate for GeluTanh {
    #[inline(always)]
    fn evaluate(x: f32) -> (f32, f32) {
        const SCALE: f32 = 0.797_884_6;
        const CUBIC: f32 = 0.044_715;
        let inner = SCALE * (x + CUBIC * x * x * x);
        // tanh(u) = 1 - 2 / (1 + e^2u), which is accurate in both limits without branches.
        let tanh = 1.0 - 2.0 / (1.0 + exp(2.0 * inner));
        let inner_derivative = SCALE * (1.0 + 3.0 * CUBIC * x * x);
        (0.5 * x * (1.0 + tanh), 0.5 * (1.0 + tanh) + 0.5 * x * (1.0 - tanh * tanh) * inner_derivative)
    }
}

const ONE_DTYPE: &str = "inputs and output of an activation are f32, or all bf16";

/// `y = act(gate) * up`.
pub fn gated_forward<'a>(
    activation: Activation,
    gate: impl Into<View<'a>>,
    up: impl Into<View<'a>>,
    y: impl Into<ValuesMut<'a>>,
) {
    match (activation, gate.into(), up.into(), y.into()) {
        (Activation::Silu, View::F32(gate), View::F32(up), ValuesMut::F32(y)) => {
            gated_forward_of::<Silu, _>(gate, up, y);
        }
        (Activation::Silu, View::Bf16(gate), View::Bf16(up), ValuesMut::Bf16(y)) => {
            gated_forward_of::<Silu, _>(gate, up, y);
        }
        (Activation::GeluTanh, View::F32(gate), View::F32(up), ValuesMut::F32(y)) => {
            gated_forward_of::<GeluTanh, _>(gate, up, y);
        }
        (Activation::GeluTanh, View::Bf16(gate), View::Bf16(up), ValuesMut::Bf16(y)) => {
            gated_forward_of::<GeluTanh, _>(gate, up, y);
        }
        _ => unreachable!("{ONE_DTYPE}"),
    }
}

fn gated_forward_of<A: Evaluate, T: Element>(gate: &[T], up: &[T], y: &mut [T]) {
    assert!(gate.len() == up.len() && y.len() == up.len(), "lengths of gate, up and output");
    let parts = y.chunks_mut(CHUNK).zip(gate.chunks(CHUNK)).zip(up.chunks(CHUNK));
    parts.par_for_each(|((y, gate), up)| {
        dispatch(
            #[inline(always)]
            || {
                for ((y, gate), up) in y.iter_mut().zip(gate).zip(up) {
                    *y = T::narrow(A::evaluate(gate.widen()).0 * up.widen());
                }
            },
        );
    });
}

/// Replaces `gate` and `up` by their gradients, given `dy`.
pub fn gated_backward<'a>(
    activation: Activation,
    gate: impl Into<ValuesMut<'a>>,
    up: impl Into<ValuesMut<'a>>,
    dy: &[f32],
) {
    match (activation, gate.into(), up.into()) {
        (Activation::Silu, ValuesMut::F32(gate), ValuesMut::F32(up)) => {
            gated_backward_of::<Silu, _>(gate, up, dy);
        }
        (Activation::Silu, ValuesMut::Bf16(gate), ValuesMut::Bf16(up)) => {
            gated_backward_of::<Silu, _>(gate, up, dy);
        }
        (Activation::GeluTanh, ValuesMut::F32(gate), ValuesMut::F32(up)) => {
            gated_backward_of::<GeluTanh, _>(gate, up, dy);
        }
        (Activation::GeluTanh, ValuesMut::Bf16(gate), ValuesMut::Bf16(up)) => {
            gated_backward_of::<GeluTanh, _>(gate, up, dy);
        }
        _ => unreachable!("{ONE_DTYPE}"),
    }
}

fn gated_backward_of<A: Evaluate, T: Element>(gate: &mut [T], up: &mut [T], dy: &[f32]) {
    assert!(gate.len() == up.len() && dy.len() == up.len(), "lengths of gate, up and gradient");
    let parts = gate.chunks_mut(CHUNK).zip(up.chunks_mut(CHUNK)).zip(dy.chunks(CHUNK));
    parts.par_for_each(|((gate, up), dy)| {
        dispatch(
            #[inline(always)]
            || {
                for ((gate, up), dy) in gate.iter_mut().zip(up).zip(dy) {
                    let (value, derivative) = A::evaluate(gate.widen());
                    *gate = T::narrow(dy * up.widen() * derivative);
                    *up = T::narrow(dy * value);
                }
            },
        );
    });
}

/// `y = act(x)`.
pub fn forward<'a>(activation: Activation, x: impl Into<View<'a>>, y: impl Into<ValuesMut<'a>>) {
    match (activation, x.into(), y.into()) {
        (Activation::Silu, View::F32(x), ValuesMut::F32(y)) => forward_of::<Silu, _>(x, y),
        (Activation::Silu, View::Bf16(x), ValuesMut::Bf16(y)) => forward_of::<Silu, _>(x, y),
        (Activation::GeluTanh, View::F32(x), ValuesMut::F32(y)) => forward_of::<GeluTanh, _>(x, y),
        (Activation::GeluTanh, View::Bf16(x), ValuesMut::Bf16(y)) => forward_of::<GeluTanh, _>(x, y),
        _ => unreachable!("{ONE_DTYPE}"),
    }
}

fn forward_of<A: Evaluate, T: Element>(x: &[T], y: &mut [T]) {
    assert_eq!(x.len(), y.len(), "lengths of input and output");
    y.chunks_mut(CHUNK).zip(x.chunks(CHUNK)).par_for_each(|(y, x)| {
        dispatch(
            #[inline(always)]
            || {
                for (y, x) in y.iter_mut().zip(x) {
                    *y = T::narrow(A::evaluate(x.widen()).0);
                }
            },
        );
    });
}

/// Replaces `x` by its gradient, given `dy`.
pub fn backward<'a>(activation: Activation, x: impl Into<ValuesMut<'a>>, dy: &[f32]) {
    match (activation, x.into()) {
        (Activation::Silu, ValuesMut::F32(x)) => backward_of::<Silu, _>(x, dy),
        (Activation::Silu, ValuesMut::Bf16(x)) => backward_of::<Silu, _>(x, dy),
        (Activation::GeluTanh, ValuesMut::F32(x)) => backward_of::<GeluTanh, _>(x, dy),
        (Activation::GeluTanh, ValuesMut::Bf16(x)) => backward_of::<GeluTanh, _>(x, dy),
    }
}

fn backward_of<A: Evaluate, T: Element>(x: &mut [T], dy: &[f32]) {
    assert_eq!(x.len(), dy.len(), "lengths of input and gradient");
    x.chunks_mut(CHUNK).zip(dy.chunks(CHUNK)).par_for_each(|(x, dy)| {
        dispatch(
            #[inline(always)]
            || {
                for (x, dy) in x.iter_mut().zip(dy) {
                    *x = T::narrow(dy * A::evaluate(x.widen()).1);
                }
            },
        );
    });
}
