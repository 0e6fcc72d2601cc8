//! The layers of a decoder, as the ids of their parameters: what a block computes with.

use std::ops::Range;

use parlor_kernels::linear::Shape;
use parlor_kernels::{Arithmetic, View, Write, activation};

use super::parameters::{ParameterId, Site};

/// A linear layer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LinearLayer {
    pub(crate) layer: usize,
    pub(crate) site: Site,
    pub(crate) weight: ParameterId,
    pub(crate) bias: Option<ParameterId>,
    pub(crate) outputs: usize,
    pub(crate) inputs: usize,
}

impl LinearLayer {
    pub(crate) fn shape(&self, arithmetic: Arithmetic, rows: usize) -> Shape {
        Shape { rows, inputs: self.inputs, outputs: self.outputs, arithmetic }
    }

    /// Elements of an input `[rows, inputs]` that belong to these rows.
    pub(crate) fn input_range(&self, rows: &Range<usize>) -> Range<usize> {
        rows.start * self.inputs..rows.end * self.inputs
    }

    /// Elements of an output `[rows, outputs]` that belong to these rows.
    pub(crate) fn output_range(&self, rows: &Range<usize>) -> Range<usize> {
        rows.start * self.outputs..rows.end * self.outputs
    }
}

/// A layer, and the gradient of its output, `[rows, outputs]`.
#[derive(Clone, Copy)]
pub(crate) struct OutputGradient<'a> {
    pub(crate) linear: LinearLayer,
    pub(crate) dy: View<'a>,
}

/// The gradient of a layer's input, and what becomes of its contents; `None` when nothing below is trained.
pub(crate) type InputGradient<'a> = Option<(&'a mut [f32], Write)>;

/// A norm of the residual stream, of the kind that the configuration names.
#[derive(Clone, Copy, Debug)]
pub(crate) enum NormLayer {
    /// RMS norm.
    Rms { eps: f32, weight: ParameterId },
    /// Layer norm.
    Layer { eps: f32, weight: ParameterId, bias: ParameterId },
}

/// The per-head norms of queries and keys.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QkNormLayers {
    pub(crate) eps: f32,
    pub(crate) q: ParameterId,
    pub(crate) k: ParameterId,
}

/// The MLP of a block: `down(act(gate(x)) * up(x))`, or `down(act(up(x)))` without a gate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MlpLayers {
    pub(crate) activation: activation::Activation,
    pub(crate) gate: Option<LinearLayer>,
    pub(crate) up: LinearLayer,
    pub(crate) down: LinearLayer,
}

/// The layers of one block.
#[derive(Clone, Debug)]
pub(crate) struct BlockLayers {
    pub(crate) input_norm: NormLayer,
    pub(crate) q: LinearLayer,
    pub(crate) k: LinearLayer,
    pub(crate) v: LinearLayer,
    pub(crate) o: LinearLayer,
    pub(crate) qk_norm: Option<QkNormLayers>,
    /// The rotary frequencies, by index into `Decoder::frequencies`; `None` rotates nothing.
    pub(crate) rope: Option<usize>,
    /// How many of the last positions a query sees, itself included; `None` is all of them.
    pub(crate) window: Option<usize>,
    pub(crate) mlp_norm: NormLayer,
    pub(crate) mlp: MlpLayers,
}

impl BlockLayers {
    /// The linear layer at a site.
    pub(crate) fn linear(&self, site: Site) -> Option<LinearLayer> {
        match site {
            Site::QProj => Some(self.q),
            Site::KProj => Some(self.k),
            Site::VProj => Some(self.v),
            Site::OProj => Some(self.o),
            Site::GateProj => self.mlp.gate,
            Site::UpProj => Some(self.mlp.up),
            Site::DownProj => Some(self.mlp.down),
            Site::InputNorm | Site::PostAttentionNorm | Site::QNorm | Site::KNorm => None,
        }
    }
}
