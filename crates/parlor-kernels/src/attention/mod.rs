//! Causal attention over a ragged batch: grouped heads, sliding window, cached and shared prefixes.
//!
//! Visibility is bounds, never a mask tensor: a key at position `p` is seen from position `q` when `p <= q` and, under a
//! window `w`, `q - p < w`. Queries meet keys in tiles; the softmax's sum is carried from tile to tile (Milakov and Gimelshein,
//! "Online normalizer calculation for softmax", 2018; Dao et al., "FlashAttention", 2022), so memory is linear in length. The
//! forward keeps one number per query and head, the log-sum-exp of its scores, from which the backward recomputes the
//! probabilities (Dao, "FlashAttention-2", 2023).
//!
//! The query heads that share a key/value head are rows of one matrix, so that each key and value is fetched and
//! packed once for all of them; the products are the tiles of [`mod@crate::product`], in f32 or bf16. A query alone meets keys as
//! they lie.
//! Leaves out: soft-capping, ALiBi, dividing one query's keys among threads.

mod backward;
mod forward;
mod keys;
mod one;

use std::ops::Range;

use crate::matmul::gemm::Path;
use crate::parallel::SharedMut;
use crate::parallel::threads::parallel_for;
use crate::{Arithmetic, View};

pub(crate) use backward::backward_family;
pub(crate) use forward::forward_task;

/// Heads and their sizes. Queries are `[rows, heads * head_dim]`, keys and values `[rows, kv_heads * head_dim]`.
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
    fn query_width(&self) -> usize {
        self.heads * self.head_dim
    }

    fn key_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// Query heads that share a key/value head.
    fn group(&self) -> usize {
        self.heads / self.kv_heads.max(1)
    }

    /// First position that the query at `position` sees.
    fn oldest(&self, position: usize) -> usize {
        self.window.map_or(0, |window| (position + 1).saturating_sub(window))
    }
}

/// Where a run of keys and values lies.
#[derive(Clone, Debug)]
pub enum Source<'a> {
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

/// A run of keys at consecutive positions.
#[derive(Clone, Debug)]
pub struct Span<'a> {
    /// Where they lie.
    pub source: Source<'a>,
    /// Position of the first.
    pub position: usize,
}

/// Queries at consecutive positions that share their keys.
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

/// What a forward pass reads and writes.
pub(crate) struct Forward<'a> {
    geometry: &'a Geometry,
    path: Path,
    q: &'a [f32],
    kv: KeyValues<'a>,
    segments: &'a [Segment<'a>],
    out: SharedMut<f32>,
    lse: SharedMut<f32>,
}

/// Some rows of a segment, and the key/value head whose query heads they are computed for.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    segment: usize,
    rows: Range<usize>,
    kv_head: usize,
}

/// The queries of a task: as many rows as heads of the group for each.
#[derive(Clone, Copy)]
struct Queries {
    /// Position of the first.
    position: usize,
    group: usize,
    rows: usize,
}

impl Queries {
    fn position_of(&self, row: usize) -> usize {
        self.position + row / self.group
    }
}

/// Attention of every segment's queries over its spans: `out` `[rows, heads * head_dim]`, and the log-sum-exp of
/// each query's scores, `lse` `[rows, heads]`. Rows outside every segment are left as they are.
pub fn forward(
    (geometry, arithmetic): (&Geometry, Arithmetic),
    q: &[f32],
    kv: KeyValues<'_>,
    segments: &[Segment<'_>],
    out: &mut [f32],
    lse: &mut [f32],
) {
    forward_by(Path::best(arithmetic), geometry, (q, kv, segments), (out, lse));
}

/// The same by `path`.
pub fn forward_by(
    path: Path,
    geometry: &Geometry,
    (q, kv, segments): (&[f32], KeyValues<'_>, &[Segment<'_>]),
    (out, lse): (&mut [f32], &mut [f32]),
) {
    assert!(
        q.len() == out.len() && lse.len() * geometry.head_dim == q.len(),
        "sizes of queries, output and log-sum-exp"
    );
    // Queries of a task: as many rows, heads of a group included, as share the packing of their keys.
    let step = (forward::ROWS / geometry.group().max(1)).max(1);
    let mut tasks = Vec::new();
    for (segment, Segment { rows, .. }) in segments.iter().enumerate() {
        for start in rows.clone().step_by(step) {
            let rows = start..(start + step).min(rows.end);
            tasks.extend((0..geometry.kv_heads).map(|kv_head| Task { segment, rows: rows.clone(), kv_head }));
        }
    }
    let (out, lse) = (SharedMut::new(out), SharedMut::new(lse));
    let job = Forward { geometry, path, q, kv, segments, out, lse };
    // Later queries see more keys: the longest tasks first.
    parallel_for(tasks.len(), |index| (path.attend)(&job, &tasks[tasks.len() - 1 - index]));
}

/// What the backward pass reads.
#[derive(Clone, Copy, Debug)]
pub struct Saved<'a> {
    /// Queries, `[rows, heads * head_dim]`.
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
pub(crate) struct Backward<'a> {
    geometry: &'a Geometry,
    path: Path,
    saved: Saved<'a>,
    segments: &'a [Segment<'a>],
    dout: &'a [f32],
    dq: SharedMut<f32>,
    dk: SharedMut<f32>,
    dv: SharedMut<f32>,
}

/// Gradients of queries, keys and values from `dout`.
///
/// # Panics
/// When a span lies in a cache: cached keys have no gradient, so training never has them.
pub fn backward(
    (geometry, arithmetic): (&Geometry, Arithmetic),
    saved: Saved<'_>,
    segments: &[Segment<'_>],
    dout: &[f32],
    gradients: Gradients<'_>,
) {
    backward_by(Path::best(arithmetic), geometry, (saved, segments, dout), gradients);
}

/// The same by `path`.
///
/// # Panics
/// As [`backward`].
pub fn backward_by(
    path: Path,
    geometry: &Geometry,
    (saved, segments, dout): (Saved<'_>, &[Segment<'_>], &[f32]),
    gradients: Gradients<'_>,
) {
    let Gradients { dq, dk, dv } = gradients;
    assert!(
        saved.q.len() == dq.len() && dout.len() == dq.len() && saved.kv.keys.len() == dk.len(),
        "sizes of queries, keys and gradients"
    );
    let families = families(segments);
    let (dq, dk, dv) = (SharedMut::new(dq), SharedMut::new(dk), SharedMut::new(dv));
    let job = Backward { geometry, path, saved, segments, dout, dq, dk, dv };
    let heads = geometry.kv_heads.max(1);
    parallel_for(families.len() * heads, |index| {
        (path.attend_back)(&job, &families[index / heads], index % heads)
    });
}

/// Segments that share keys, by the first row of their root: one task owns the key and value gradients of a family and
/// a key head.
fn families(segments: &[Segment<'_>]) -> Vec<Vec<usize>> {
    let mut families: Vec<(usize, Vec<usize>)> = Vec::new();
    for (index, segment) in segments.iter().enumerate() {
        let root = segment.spans.iter().map(|span| match &span.source {
            Source::Rows(rows) => rows.start,
            Source::Cache { .. } => panic!("a cached span in the backward pass"),
        });
        let root = root.min().unwrap_or(segment.rows.start);
        match families.iter_mut().find(|(known, _)| *known == root) {
            Some((_, members)) => members.push(index),
            None => families.push((root, vec![index])),
        }
    }
    families.into_iter().map(|(_, members)| members).collect()
}
