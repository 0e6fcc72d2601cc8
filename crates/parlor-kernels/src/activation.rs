//! Activations of the MLP, forward and backward: SiLU and tanh-GELU, gated (`act(gate) * up`) or plain.

use crate::threads::Parts as _;

use crate::simd::{dispatch, exp};

/// The nonlinearity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x * sigmoid(x)`.
    Silu,
    /// `0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))`.
    GeluTanh,
}

const CHUNK: usize = 16 * 1024;

/// Value and derivative at `x` of the activation that is known where the loop is compiled.
trait Evaluate {
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
        // tanh(u) = 1 - 2 / (1 + e^2u), right at both ends without branches.
        let tanh = 1.0 - 2.0 / (1.0 + exp(2.0 * inner));
        let slope = SCALE * (1.0 + 3.0 * CUBIC * x * x);
        (0.5 * x * (1.0 + tanh), 0.5 * (1.0 + tanh) + 0.5 * x * (1.0 - tanh * tanh) * slope)
    }
}

/// `y = act(gate) * up`.
pub fn gated_forward(activation: Activation, gate: &[f32], up: &[f32], y: &mut [f32]) {
    match activation {
        Activation::Silu => gated_forward_of::<Silu>(gate, up, y),
        Activation::GeluTanh => gated_forward_of::<GeluTanh>(gate, up, y),
    }
}

fn gated_forward_of<A: Evaluate>(gate: &[f32], up: &[f32], y: &mut [f32]) {
    assert!(gate.len() == up.len() && y.len() == up.len(), "lengths of gate, up and output");
    let parts = y.chunks_mut(CHUNK).zip(gate.chunks(CHUNK)).zip(up.chunks(CHUNK));
    parts.share(|((y, gate), up)| {
        dispatch(
            #[inline(always)]
            || {
                for ((y, gate), up) in y.iter_mut().zip(gate).zip(up) {
                    *y = A::evaluate(*gate).0 * up;
                }
            },
        );
    });
}

/// Turns `gate` and `up` into their gradients in place, from `dy`.
pub fn gated_backward(activation: Activation, gate: &mut [f32], up: &mut [f32], dy: &[f32]) {
    match activation {
        Activation::Silu => gated_backward_of::<Silu>(gate, up, dy),
        Activation::GeluTanh => gated_backward_of::<GeluTanh>(gate, up, dy),
    }
}

fn gated_backward_of<A: Evaluate>(gate: &mut [f32], up: &mut [f32], dy: &[f32]) {
    assert!(gate.len() == up.len() && dy.len() == up.len(), "lengths of gate, up and gradient");
    let parts = gate.chunks_mut(CHUNK).zip(up.chunks_mut(CHUNK)).zip(dy.chunks(CHUNK));
    parts.share(|((gate, up), dy)| {
        dispatch(
            #[inline(always)]
            || {
                for ((gate, up), dy) in gate.iter_mut().zip(up).zip(dy) {
                    let (value, slope) = A::evaluate(*gate);
                    *gate = dy * *up * slope;
                    *up = dy * value;
                }
            },
        );
    });
}

/// `y = act(x)`.
pub fn forward(activation: Activation, x: &[f32], y: &mut [f32]) {
    match activation {
        Activation::Silu => forward_of::<Silu>(x, y),
        Activation::GeluTanh => forward_of::<GeluTanh>(x, y),
    }
}

fn forward_of<A: Evaluate>(x: &[f32], y: &mut [f32]) {
    assert_eq!(x.len(), y.len(), "lengths of input and output");
    y.chunks_mut(CHUNK).zip(x.chunks(CHUNK)).share(|(y, x)| {
        dispatch(
            #[inline(always)]
            || {
                for (y, x) in y.iter_mut().zip(x) {
                    *y = A::evaluate(*x).0;
                }
            },
        );
    });
}

/// Turns `x` into its gradient in place, from `dy`.
pub fn backward(activation: Activation, x: &mut [f32], dy: &[f32]) {
    match activation {
        Activation::Silu => backward_of::<Silu>(x, dy),
        Activation::GeluTanh => backward_of::<GeluTanh>(x, dy),
    }
}

fn backward_of<A: Evaluate>(x: &mut [f32], dy: &[f32]) {
    assert_eq!(x.len(), dy.len(), "lengths of input and gradient");
    x.chunks_mut(CHUNK).zip(dy.chunks(CHUNK)).share(|(x, dy)| {
        dispatch(
            #[inline(always)]
            || {
                for (x, dy) in x.iter_mut().zip(dy) {
                    *x = dy * A::evaluate(*x).1;
                }
            },
        );
    });
}
