//! Causal attention over a ragged batch: grouped heads, sliding window, cached and shared prefixes.
//!
//! Visibility is bounds, never a mask tensor: a key at position `p` is seen from position `q` when `p <= q` and, under a window `w`,
//! `q - p < w`. Queries are multiplied by keys in tiles with an online softmax (Milakov and Gimelshein, "Online normalizer calculation for
//! softmax", 2018; Dao et al., "FlashAttention", 2022), so memory is linear in length. The forward keeps one number per query and head,
//! the log-sum-exp of its scores, from which the backward recomputes the probabilities (Dao, "FlashAttention-2", 2023).
//!
//! The query heads that share a key/value head are rows of one matrix, so that each key and value is read and packed once for all of
//! them; the products are the microkernels of [`gemm`](crate::matmul::gemm), in f32 or bf16. A single query reads keys in place
//! ([`decode`]).
//! Leaves out: soft-capping, ALiBi, dividing one query's keys among threads.

mod backward;
mod decode;
mod forward;
mod keys;
mod problem;
mod softmax;

use crate::matmul::KernelSet;
use crate::matmul::gemm::dispatch::with_microkernel;
use crate::memory::Arithmetic;
use crate::parallel::SharedMut;
use crate::parallel::threads::parallel_for;
use backward::backward_group;
use forward::forward_task;
use problem::{AttentionTask, BackwardProblem, ForwardProblem};

pub use problem::{ForwardResults, Geometry, Gradients, KeySource, KeyValues, Segment, Span};

/// Attention of every segment's queries over its spans: `out` `[rows, heads * head_dim]`, and the log-sum-exp of
/// each query's scores, `lse` `[rows, heads]`. StridedRows outside every segment are left as they are.
pub fn forward(
    (geometry, arithmetic): (&Geometry, Arithmetic),
    q: &[f32],
    kv: KeyValues<'_>,
    segments: &[Segment<'_>],
    out: &mut [f32],
    lse: &mut [f32],
) {
    forward_with(KernelSet::best(), (geometry, arithmetic), (q, kv, segments), (out, lse));
}

/// As [`forward`], with the kernels of one instruction set.
pub fn forward_with(
    kernels: &KernelSet,
    (geometry, arithmetic): (&Geometry, Arithmetic),
    (q, kv, segments): (&[f32], KeyValues<'_>, &[Segment<'_>]),
    (out, lse): (&mut [f32], &mut [f32]),
) {
    assert!(
        q.len() == out.len() && lse.len() * geometry.head_dim == q.len(),
        "sizes of queries, output and log-sum-exp"
    );
    // Query rows of a task, heads of a group included, share the packing of their keys.
    let step = (forward::MAX_ROWS / geometry.group().max(1)).max(1);
    let mut tasks = Vec::new();
    for (segment, Segment { rows, .. }) in segments.iter().enumerate() {
        for start in rows.clone().step_by(step) {
            let rows = start..(start + step).min(rows.end);
            tasks.extend((0..geometry.kv_heads).map(|kv_head| AttentionTask {
                segment,
                rows: rows.clone(),
                kv_head,
            }));
        }
    }
    let (out, lse) = (SharedMut::new(out), SharedMut::new(lse));
    let (kernel, gemv) = (kernels.gemm(arithmetic), kernels.gemv());
    let rounding = kernel.rounding();
    let problem = ForwardProblem { geometry, rounding, gemv, q, kv, segments, out, lse };
    // Later queries see more keys: the longest tasks first.
    let longest_first = |index: usize| &tasks[tasks.len() - 1 - index];
    with_microkernel!(kernel, K => parallel_for(tasks.len(), |index| {
        forward_task::<K>(&problem, longest_first(index));
    }));
}

/// Gradients of queries, keys and values from `dout`.
///
/// # Panics
/// When a span lies in a cache: cached keys have no gradient, so training never has them.
pub fn backward(
    (geometry, arithmetic): (&Geometry, Arithmetic),
    forward: ForwardResults<'_>,
    segments: &[Segment<'_>],
    dout: &[f32],
    gradients: Gradients<'_>,
) {
    backward_with(KernelSet::best(), (geometry, arithmetic), (forward, segments, dout), gradients);
}

/// As [`backward`], with the kernels of one instruction set.
///
/// # Panics
/// As [`backward`].
pub fn backward_with(
    kernels: &KernelSet,
    (geometry, arithmetic): (&Geometry, Arithmetic),
    (forward, segments, dout): (ForwardResults<'_>, &[Segment<'_>], &[f32]),
    gradients: Gradients<'_>,
) {
    let Gradients { dq, dk, dv } = gradients;
    assert!(
        forward.q.len() == dq.len() && dout.len() == dq.len() && forward.kv.keys.len() == dk.len(),
        "sizes of queries, keys and gradients"
    );
    let groups = prefix_groups(segments);
    let (dq, dk, dv) = (SharedMut::new(dq), SharedMut::new(dk), SharedMut::new(dv));
    let kernel = kernels.gemm(arithmetic);
    let rounding = kernel.rounding();
    let problem = BackwardProblem { geometry, rounding, forward, segments, dout, dq, dk, dv };
    let heads = geometry.kv_heads.max(1);
    with_microkernel!(kernel, K => parallel_for(groups.len() * heads, |index| {
        backward_group::<K>(&problem, &groups[index / heads], index % heads);
    }));
}

/// Prefix groups: segments that share keys, by the first row of their root. One task owns the key and value gradients of a group and a
/// key/value head.
fn prefix_groups(segments: &[Segment<'_>]) -> Vec<Vec<usize>> {
    let mut groups: Vec<(usize, Vec<usize>)> = Vec::new();
    for (index, segment) in segments.iter().enumerate() {
        let root = segment.spans.iter().map(|span| match &span.source {
            KeySource::Rows(rows) => rows.start,
            KeySource::Cache { .. } => panic!("a cached span in the backward pass"),
        });
        let root = root.min().unwrap_or(segment.rows.start);
        match groups.iter_mut().find(|(known, _)| *known == root) {
            Some((_, members)) => members.push(index),
            None => groups.push((root, vec![index])),
        }
    }
    groups.into_iter().map(|(_, members)| members).collect()
}
