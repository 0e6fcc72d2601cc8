//! The output head and the log-probability of the targets in one operation, chunk by chunk: the matrix
//! `[tokens, vocab]` of logits never exists. The backward recomputes each chunk's logits.

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

/// `logp[row] = log softmax(W x[row])[targets[row]]`, and `lse[row]`, the log of the softmax's denominator.
///
/// # Panics
/// When a target is not in the vocabulary: the caller checks.
pub fn forward(head: Head<'_>, x: &[f32], targets: &[u32], logp: &mut [f32], lse: &mut [f32]) {
    assert!(
        x.len() == targets.len() * head.hidden && logp.len() == targets.len(),
        "sizes of the head's input"
    );
    let step = chunk_rows(head.vocab);
    let mut logits = vec![0.0; step.min(targets.len()) * head.vocab];
    for start in (0..targets.len()).step_by(step) {
        let end = (start + step).min(targets.len());
        let logits = &mut logits[..(end - start) * head.vocab];
        linear::forward(
            &x[start * head.hidden..end * head.hidden],
            head.weight,
            None,
            logits,
            Write::Replace,
            head.shape(end - start),
        );
        logits
            .par_chunks(head.vocab)
            .zip(&targets[start..end])
            .zip(&mut logp[start..end])
            .zip(&mut lse[start..end])
            .for_each(|(((logits, &target), logp), lse)| {
                *lse = log_sum_exp(logits);
                *logp = logits[target as usize] - *lse;
            });
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

/// `dx = ...` and `dweight += ...` (when asked for).
pub fn backward(head: Head<'_>, rows: Rows<'_>, dx: &mut [f32], mut dweight: Option<&mut [f32]>) {
    let Rows { x, targets, lse, d_logp } = rows;
    assert!(x.len() == dx.len() && x.len() == targets.len() * head.hidden, "sizes of the head's input");
    let step = chunk_rows(head.vocab);
    let mut logits = vec![0.0; step.min(targets.len()) * head.vocab];
    for start in (0..targets.len()).step_by(step) {
        let end = (start + step).min(targets.len());
        let (shape, span) = (head.shape(end - start), start * head.hidden..end * head.hidden);
        let logits = &mut logits[..(end - start) * head.vocab];
        linear::forward(&x[span.clone()], head.weight, None, logits, Write::Replace, shape);
        logits
            .par_chunks_mut(head.vocab)
            .zip(&targets[start..end])
            .zip(&lse[start..end])
            .zip(&d_logp[start..end])
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
