//! The problem that attention solves: heads, segments with the keys they see, and what the two passes read and write.

use std::ops::Range;

use crate::matmul::gemm::microkernel::Rounding;
use crate::matmul::gemv::GemvKernel;
use crate::memory::View;
use crate::parallel::SharedMut;

/// Heads and their sizes. QueryRows are `[rows, heads * head_dim]`, keys and values `[rows, kv_heads * head_dim]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Geometry {
    /// Query heads.
    pub heads: usize,
    /// Key/value heads; each serves `heads / kv_heads` query heads.
    pub kv_heads: usize,
    /// Features per head.
    pub head_dim: usize,
    /// Factor on the scores, usually `1 / sqrt(head_dim)`.
    pub scale: f32,
    /// How many of the last positions a query sees, itself included.
    pub window: Option<usize>,
}

impl Geometry {
    pub(super) fn query_width(&self) -> usize {
        self.heads * self.head_dim
    }

    pub(super) fn key_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// Query heads that share a key/value head.
    pub(super) fn group(&self) -> usize {
        self.heads / self.kv_heads.max(1)
    }

    /// First position that the query at `position` sees.
    pub(super) fn oldest(&self, position: usize) -> usize {
        self.window.map_or(0, |window| (position + 1).saturating_sub(window))
    }
}

/// Where consecutive keys and values lie.
#[derive(Clone, Debug)]
pub enum KeySource<'a> {
    /// In these rows of the batch's own keys and values.
    Rows(Range<usize>),
    /// In a cache, or in a block of one: `[tokens, kv_heads * head_dim]` each, of any dtype (8 bits are blocks of `Q8_0`).
    Cache {
        /// Keys.
        keys: View<'a>,
        /// Values.
        values: View<'a>,
    },
}

/// Keys at consecutive positions.
#[derive(Clone, Debug)]
pub struct Span<'a> {
    /// Where they lie.
    pub source: KeySource<'a>,
    /// Position of the first.
    pub position: usize,
}

/// QueryRows at consecutive positions that share their keys.
#[derive(Clone, Debug)]
pub struct Segment<'a> {
    /// Rows of the batch that hold the queries.
    pub rows: Range<usize>,
    /// Position of the first.
    pub position: usize,
    /// All keys they may see, their own included; in the backward pass all in rows of the batch.
    pub spans: Vec<Span<'a>>,
}

/// Keys and values of the batch.
#[derive(Clone, Copy, Debug)]
pub struct KeyValues<'a> {
    /// `[rows, kv_heads * head_dim]`.
    pub keys: &'a [f32],
    /// `[rows, kv_heads * head_dim]`.
    pub values: &'a [f32],
}

/// A forward pass.
pub(super) struct ForwardProblem<'a> {
    pub(super) geometry: &'a Geometry,
    pub(super) rounding: Rounding,
    pub(super) gemv: GemvKernel,
    pub(super) q: &'a [f32],
    pub(super) kv: KeyValues<'a>,
    pub(super) segments: &'a [Segment<'a>],
    pub(super) out: SharedMut<f32>,
    pub(super) lse: SharedMut<f32>,
}

/// Some rows of a segment, and the key/value head whose query heads they are computed for.
#[derive(Clone, Debug)]
pub(super) struct AttentionTask {
    pub(super) segment: usize,
    pub(super) rows: Range<usize>,
    pub(super) kv_head: usize,
}

/// The queries of a task: as many rows as heads of the group for each.
#[derive(Clone, Copy)]
pub(super) struct QueryRows {
    /// Position of the first.
    pub(super) position: usize,
    pub(super) group: usize,
    pub(super) rows: usize,
}

impl QueryRows {
    pub(super) fn position_of(&self, row: usize) -> usize {
        self.position + row / self.group
    }
}

/// What the backward pass reads.
#[derive(Clone, Copy, Debug)]
pub struct ForwardResults<'a> {
    /// QueryRows, `[rows, heads * head_dim]`.
    pub q: &'a [f32],
    /// Keys and values.
    pub kv: KeyValues<'a>,
    /// The forward's output.
    pub out: &'a [f32],
    /// The forward's log-sum-exp.
    pub lse: &'a [f32],
}

/// Where the backward pass writes; `dq` is replaced, `dk` and `dv` are added to.
pub struct Gradients<'a> {
    /// `[rows, heads * head_dim]`.
    pub dq: &'a mut [f32],
    /// `[rows, kv_heads * head_dim]`.
    pub dk: &'a mut [f32],
    /// `[rows, kv_heads * head_dim]`.
    pub dv: &'a mut [f32],
}

/// A backward pass.
pub(super) struct BackwardProblem<'a> {
    pub(super) geometry: &'a Geometry,
    pub(super) rounding: Rounding,
    pub(super) forward: ForwardResults<'a>,
    pub(super) segments: &'a [Segment<'a>],
    pub(super) dout: &'a [f32],
    pub(super) dq: SharedMut<f32>,
    pub(super) dk: SharedMut<f32>,
    pub(super) dv: SharedMut<f32>,
}
