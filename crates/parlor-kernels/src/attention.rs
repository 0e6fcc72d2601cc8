//! Causal attention over a ragged batch: grouped heads, sliding window, cached and shared prefixes.
//!
//! Visibility is bounds, never a mask tensor: a key at position `p` is seen from position `q` when `p <= q` and,
//! under a window `w`, `q - p < w`. The forward keeps one number per query and head, the log-sum-exp of its
//! scores, from which the backward recomputes the probabilities (Dao, 2023); memory is linear in length.
//! Leaves out: cache blocks, soft-capping, ALiBi.

use std::ops::Range;

use rayon::prelude::*;

use crate::Write;
use crate::matmul::{Mat, MatMut, On, matmul};
use crate::pointer::SharedMut;
use crate::simd::{dispatch, dot, exp, max_of, sum_of};

/// Queries whose scores are held at once.
const BLOCK: usize = 64;

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
}

/// Where a run of keys and values lies.
#[derive(Clone, Debug)]
pub enum Source<'a> {
    /// In these rows of the batch's own keys and values.
    Rows(Range<usize>),
    /// In a cache: `[tokens, kv_heads * head_dim]` each.
    Cache {
        /// Keys.
        keys: &'a [f32],
        /// Values.
        values: &'a [f32],
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

/// Part of a span that some query of a block sees.
struct Visible<'a> {
    keys: &'a [f32],
    values: &'a [f32],
    /// First row in the batch, for gradients.
    row: usize,
    position: usize,
    len: usize,
}

fn visible<'a>(
    geometry: &Geometry,
    kv: KeyValues<'a>,
    segment: &Segment<'a>,
    block: &Range<usize>,
) -> Vec<Visible<'a>> {
    let width = geometry.key_width();
    let first_query = segment.position + block.start - segment.rows.start;
    let last_query = first_query + block.len() - 1;
    let oldest = geometry.window.map_or(0, |window| (first_query + 1).saturating_sub(window));
    segment
        .spans
        .iter()
        .filter_map(|span| {
            let (keys, values, row) = match &span.source {
                Source::Rows(rows) => {
                    let range = rows.start * width..rows.end * width;
                    (&kv.keys[range.clone()], &kv.values[range], rows.start)
                }
                Source::Cache { keys, values } => (*keys, *values, 0),
            };
            let tokens = keys.len() / width;
            let from = oldest.saturating_sub(span.position).min(tokens);
            let to = (last_query + 1).saturating_sub(span.position).min(tokens);
            (from < to).then(|| Visible {
                keys: &keys[from * width..to * width],
                values: &values[from * width..to * width],
                row: row + from,
                position: span.position + from,
                len: to - from,
            })
        })
        .collect()
}

/// Fills `scores[block, total]` with `scale * q k^T`, negative infinity where a key is not seen.
fn scores(
    geometry: &Geometry,
    queries: Mat<'_>,
    spans: &[Visible<'_>],
    kv_head: usize,
    first_query: usize,
    scores: &mut [f32],
) {
    let total: usize = spans.iter().map(|span| span.len).sum();
    let rows = scores.len() / total.max(1);
    let mut column = 0;
    for span in spans {
        let keys = Mat::new(
            &span.keys[kv_head * geometry.head_dim..],
            span.len,
            geometry.head_dim,
            geometry.key_width(),
        );
        let out = MatMut::new(&mut scores[column..], rows, span.len, total);
        matmul(out, queries, keys.transposed(), geometry.scale, Write::Replace, On::Caller);
        for (row, line) in scores.chunks_exact_mut(total).enumerate() {
            let query = first_query + row;
            let line = &mut line[column..column + span.len];
            let end = (query + 1).saturating_sub(span.position).min(span.len);
            let oldest = geometry.window.map_or(0, |window| (query + 1).saturating_sub(window));
            let start = oldest.saturating_sub(span.position).min(end);
            line[..start].fill(f32::NEG_INFINITY);
            line[end..].fill(f32::NEG_INFINITY);
        }
        column += span.len;
    }
}

fn blocks<'a>(segments: &'a [Segment<'_>]) -> impl Iterator<Item = (usize, Range<usize>)> + 'a {
    segments.iter().enumerate().flat_map(|(index, segment)| {
        let rows = segment.rows.clone();
        rows.clone().step_by(BLOCK).map(move |start| (index, start..(start + BLOCK).min(rows.end)))
    })
}

/// Attention of every segment's queries over its spans: `out` `[rows, heads * head_dim]`, and the log-sum-exp of
/// each query's scores, `lse` `[rows, heads]`. Rows outside every segment are left as they are.
pub fn forward(
    geometry: &Geometry,
    q: &[f32],
    kv: KeyValues<'_>,
    segments: &[Segment<'_>],
    out: &mut [f32],
    lse: &mut [f32],
) {
    let (heads, dim, width) = (geometry.heads, geometry.head_dim, geometry.query_width());
    assert!(q.len() == out.len() && lse.len() * dim == q.len(), "sizes of queries, output and log-sum-exp");
    let tasks: Vec<_> = blocks(segments)
        .flat_map(|(s, block)| (0..heads).map(move |head| (s, block.clone(), head)))
        .collect();
    let (out, lse) = (SharedMut::new(out), SharedMut::new(lse));
    tasks.par_iter().for_each_init(Vec::new, |buffer: &mut Vec<f32>, (s, block, head)| {
        let segment = &segments[*s];
        let spans = visible(geometry, kv, segment, block);
        let total: usize = spans.iter().map(|span| span.len).sum();
        let kv_head = head / (heads / geometry.kv_heads);
        buffer.resize(block.len() * total, 0.0);
        let queries = Mat::new(&q[block.start * width + head * dim..], block.len(), dim, width);
        let first_query = segment.position + block.start - segment.rows.start;
        scores(geometry, queries, &spans, kv_head, first_query, buffer);
        for (row, line) in buffer.chunks_exact_mut(total.max(1)).enumerate() {
            let log_sum = dispatch(
                #[inline(always)]
                || {
                    let max = max_of(line);
                    for x in line.iter_mut() {
                        *x = exp(*x - max);
                    }
                    let sum = sum_of(
                        line,
                        #[inline(always)]
                        |x| x,
                    );
                    let inverse = 1.0 / sum;
                    for x in line.iter_mut() {
                        *x *= inverse;
                    }
                    max + sum.ln()
                },
            );
            // SAFETY: this task alone owns column `head` of the rows of `block`.
            unsafe { lse.slice((block.start + row) * heads + head, 1)[0] = log_sum };
        }
        let mut column = 0;
        for (index, span) in spans.iter().enumerate() {
            let at = block.start * width + head * dim;
            // SAFETY: this task alone owns the columns of `head` in the rows of `block`; `offset` checks bounds.
            let target = unsafe {
                let extent = (block.len() - 1) * width + dim;
                MatMut::from_raw(out.offset(at, extent), block.len(), dim, width)
            };
            let weights = Mat::new(&buffer[column..], block.len(), span.len, total);
            let values = Mat::new(&span.values[kv_head * dim..], span.len, dim, geometry.key_width());
            let write = if index == 0 { Write::Replace } else { Write::Accumulate };
            matmul(target, weights, values, 1.0, write, On::Caller);
            column += span.len;
        }
    });
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

/// Gradients of queries, keys and values from `dout`.
///
/// # Panics
/// When a span lies in a cache: cached keys have no gradient, so training never has them.
pub fn backward(
    geometry: &Geometry,
    saved: Saved<'_>,
    segments: &[Segment<'_>],
    dout: &[f32],
    gradients: Gradients<'_>,
) {
    let Gradients { dq, dk, dv } = gradients;
    assert!(
        saved.q.len() == dq.len() && dout.len() == dq.len() && saved.kv.keys.len() == dk.len(),
        "sizes of queries, keys and gradients"
    );
    // Segments that share keys form a family, known by the first row of its root; one task owns the key and
    // value gradients of one family and one key head.
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
    let tasks: Vec<_> =
        families.iter().flat_map(|(_, members)| (0..geometry.kv_heads).map(move |h| (members, h))).collect();
    let shared = [SharedMut::new(dq), SharedMut::new(dk), SharedMut::new(dv)];
    tasks.par_iter().for_each_init(Scratch::default, |scratch, (members, kv_head)| {
        let group = geometry.heads / geometry.kv_heads;
        for (index, block) in members
            .iter()
            .flat_map(|&s| blocks(std::slice::from_ref(&segments[s])).map(move |(_, block)| (s, block)))
        {
            for head in kv_head * group..(kv_head + 1) * group {
                backward_block(geometry, saved, (&segments[index], &block, head), dout, shared, scratch);
            }
        }
    });
}

#[derive(Default)]
struct Scratch {
    probabilities: Vec<f32>,
    gradients: Vec<f32>,
}

/// One block of queries of one head.
fn backward_block(
    geometry: &Geometry,
    saved: Saved<'_>,
    (segment, block, head): (&Segment<'_>, &Range<usize>, usize),
    dout: &[f32],
    [dq, dk, dv]: [SharedMut<f32>; 3],
    scratch: &mut Scratch,
) {
    let (heads, dim, width, key_width) =
        (geometry.heads, geometry.head_dim, geometry.query_width(), geometry.key_width());
    let kv_head = head / (heads / geometry.kv_heads);
    let (n, at) = (block.len(), block.start * width + head * dim);
    let spans = visible(geometry, saved.kv, segment, block);
    let total: usize = spans.iter().map(|span| span.len).sum();
    let Scratch { probabilities, gradients } = scratch;
    probabilities.resize(n * total, 0.0);
    gradients.resize(n * total, 0.0);
    let queries = Mat::new(&saved.q[at..], n, dim, width);
    let douts = Mat::new(&dout[at..], n, dim, width);
    let first_query = segment.position + block.start - segment.rows.start;
    scores(geometry, queries, &spans, kv_head, first_query, probabilities);
    let mut column = 0;
    for span in &spans {
        let values = Mat::new(&span.values[kv_head * dim..], span.len, dim, key_width);
        let out = MatMut::new(&mut gradients[column..], n, span.len, total);
        matmul(out, douts, values.transposed(), 1.0, Write::Replace, On::Caller);
        column += span.len;
    }
    let lines = probabilities.chunks_exact_mut(total.max(1)).zip(gradients.chunks_exact_mut(total.max(1)));
    for (row, (p, dp)) in lines.enumerate() {
        let row = block.start + row;
        let features = row * width + head * dim..row * width + (head + 1) * dim;
        dispatch(
            #[inline(always)]
            || {
                let delta = dot(&dout[features.clone()], &saved.out[features]);
                let lse = saved.lse[row * heads + head];
                for (p, dp) in p.iter_mut().zip(dp) {
                    *p = exp(*p - lse);
                    *dp = *p * (*dp - delta) * geometry.scale;
                }
            },
        );
    }
    let mut column = 0;
    for (index, span) in spans.iter().enumerate() {
        let keys = Mat::new(&span.keys[kv_head * dim..], span.len, dim, key_width);
        let p = Mat::new(&probabilities[column..], n, span.len, total);
        let ds = Mat::new(&gradients[column..], n, span.len, total);
        let key_at = span.row * key_width + kv_head * dim;
        let key_extent = (span.len - 1) * key_width + dim;
        // SAFETY: this task alone owns the columns of `head` in its segments' rows, and the columns of `kv_head`
        // in the rows of its family, which no other task's family shares; `offset` checks the bounds.
        let (dq, dk, dv) = unsafe {
            (
                MatMut::from_raw(dq.offset(at, (n - 1) * width + dim), n, dim, width),
                MatMut::from_raw(dk.offset(key_at, key_extent), span.len, dim, key_width),
                MatMut::from_raw(dv.offset(key_at, key_extent), span.len, dim, key_width),
            )
        };
        let write = if index == 0 { Write::Replace } else { Write::Accumulate };
        matmul(dq, ds, keys, 1.0, write, On::Caller);
        matmul(dk, ds.transposed(), queries, 1.0, Write::Accumulate, On::Caller);
        matmul(dv, p.transposed(), douts, 1.0, Write::Accumulate, On::Caller);
        column += span.len;
    }
}
