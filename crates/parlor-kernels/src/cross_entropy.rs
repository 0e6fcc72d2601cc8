//! The output head and the log-probability of the targets in one operation, chunk by chunk: the matrix
//! `[tokens, vocab]` of logits never exists. The backward recomputes each chunk's logits but the last's, which it has.

use std::ops::Range;

use rayon::prelude::*;

use crate::linear::{self, Shape};
use crate::simd::{dispatch, exp, max_of, sum_of};
use crate::{Arithmetic, View, Write};

/// Logits held at once, in elements: enough rows to keep the product busy at any vocabulary size.
const CHUNK_ELEMENTS: usize = 8 << 20;
const MAX_CHUNK_ROWS: usize = 1024;

/// The head: `logits = x W^T`, `W` `[vocab, hidden]`.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// The weight.
    pub weight: View<'a>,
    /// Rows of the weight.
    pub vocab: usize,
    /// Columns of the weight.
    pub hidden: usize,
    /// Precision of the products; the softmax is f32.
    pub arithmetic: Arithmetic,
}

impl Head<'_> {
    fn shape(&self, rows: usize) -> Shape {
        Shape { rows, inputs: self.hidden, outputs: self.vocab, arithmetic: self.arithmetic }
    }
}

/// Elements of the logits that are held at once for `rows` rows.
pub fn chunk_elements(vocab: usize, rows: usize) -> usize {
    chunk_rows(vocab).min(rows) * vocab
}

fn chunk_rows(vocab: usize) -> usize {
    (CHUNK_ELEMENTS / vocab.max(1)).clamp(16, MAX_CHUNK_ROWS)
}

/// The buffer of a chunk's logits, kept from pass to pass, and from a forward to its backward with what it holds.
#[derive(Clone, Debug, Default)]
pub struct Logits {
    values: Vec<f32>,
    /// The rows whose logits these are.
    rows: Option<Range<usize>>,
}

impl Logits {
    /// Room for the logits of `rows`; their content is whatever it was.
    fn room(&mut self, rows: &Range<usize>, vocab: usize) -> &mut [f32] {
        let len = rows.len() * vocab;
        if self.values.len() < len {
            self.values = vec![0.0; len];
        }
        &mut self.values[..len]
    }
}

/// The rows of every chunk.
fn chunks(rows: usize, vocab: usize) -> impl DoubleEndedIterator<Item = Range<usize>> {
    let step = chunk_rows(vocab);
    (0..rows).step_by(step).map(move |start| start..(start + step).min(rows))
}

/// `logp[row] = log softmax(W x[row])[targets[row]]`, and `lse[row]`, the log of the softmax's denominator.
///
/// # Panics
/// When a target is not in the vocabulary: the caller checks.
pub fn forward(
    head: Head<'_>,
    (x, targets): (&[f32], &[u32]),
    logp: &mut [f32],
    lse: &mut [f32],
    logits: &mut Logits,
) {
    assert!(
        x.len() == targets.len() * head.hidden && logp.len() == targets.len(),
        "sizes of the head's input"
    );
    logits.rows = None;
    for rows in chunks(targets.len(), head.vocab) {
        let chunk = logits.room(&rows, head.vocab);
        let x = &x[rows.start * head.hidden..rows.end * head.hidden];
        linear::forward(x, head.weight, None, chunk, Write::Replace, head.shape(rows.len()));
        chunk
            .par_chunks(head.vocab)
            .zip(&targets[rows.clone()])
            .zip(&mut logp[rows.clone()])
            .zip(&mut lse[rows.clone()])
            .for_each(|(((logits, &target), logp), lse)| {
                *lse = log_sum_exp(logits);
                *logp = logits[target as usize] - *lse;
            });
        logits.rows = Some(rows);
    }
}

/// `log(sum(exp(logits)))`, stable.
pub fn log_sum_exp(logits: &[f32]) -> f32 {
    dispatch(
        #[inline(always)]
        || {
            let max = max_of(logits);
            if max == f32::NEG_INFINITY {
                return max;
            }
            max + sum_of(
                logits,
                #[inline(always)]
                |x| exp(x - max),
            )
            .ln()
        },
    )
}

/// What the backward pass needs of the forward's rows.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// Input, `[rows, hidden]`.
    pub x: &'a [f32],
    /// Target of each row.
    pub targets: &'a [u32],
    /// The forward's `lse`.
    pub lse: &'a [f32],
    /// Derivative of the loss by each row's log-probability.
    pub d_logp: &'a [f32],
}

/// `dx = ...` and `dweight += ...` (when asked for). `logits` is the forward's, and nothing that the forward left there
/// outlives this.
pub fn backward(
    head: Head<'_>,
    rows: Rows<'_>,
    dx: &mut [f32],
    mut dweight: Option<&mut [f32]>,
    logits: &mut Logits,
) {
    let Rows { x, targets, lse, d_logp } = rows;
    assert!(x.len() == dx.len() && x.len() == targets.len() * head.hidden, "sizes of the head's input");
    for rows in chunks(targets.len(), head.vocab).rev() {
        let (shape, span) = (head.shape(rows.len()), rows.start * head.hidden..rows.end * head.hidden);
        let kept = logits.rows.take().is_some_and(|kept| kept == rows);
        let logits = logits.room(&rows, head.vocab);
        if !kept {
            linear::forward(&x[span.clone()], head.weight, None, logits, Write::Replace, shape);
        }
        logits
            .par_chunks_mut(head.vocab)
            .zip(&targets[rows.clone()])
            .zip(&lse[rows.clone()])
            .zip(&d_logp[rows.clone()])
            .for_each(|(((logits, &target), &lse), &d)| {
                dispatch(
                    #[inline(always)]
                    || {
                        for x in logits.iter_mut() {
                            *x = -d * exp(*x - lse);
                        }
                    },
                );
                logits[target as usize] += d;
            });
        linear::backward_input(logits, head.weight, &mut dx[span.clone()], Write::Replace, shape);
        if let Some(dweight) = dweight.as_deref_mut() {
            linear::backward_weight(&x[span], logits, dweight, shape);
        }
    }
}
