//! The output head and the log-probability of the targets in one operation, tile by tile: the matrix `[tokens, vocab]` of
//! logits never exists. A tile is many rows of a part of the vocabulary, so that each part of the weight is read once for
//! them all; the softmax's sum is carried from part to part (Milakov and Gimelshein, "Online normalizer calculation for
//! softmax", 2018). The backward recomputes each tile's logits but the last's, which it has.

use std::ops::Range;

use crate::threads::Parts as _;

use crate::linear::{self, Shape};
use crate::simd::{dispatch, exp, max_of, sum_of};
use crate::{Arithmetic, View, Write};

/// Rows and columns of a tile, at most: 32 MiB of logits.
const TILE_ROWS: usize = 1024;
const TILE_COLUMNS: usize = 8192;

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

impl<'a> Head<'a> {
    /// The part of the weight that makes the logits `columns`, and the sizes of its product with `rows` rows.
    fn part(&self, rows: usize, columns: &Range<usize>) -> (View<'a>, Shape) {
        let weight = self.weight.slice(columns.start * self.hidden..columns.end * self.hidden);
        let shape = Shape { rows, inputs: self.hidden, outputs: columns.len(), arithmetic: self.arithmetic };
        (weight, shape)
    }
}

/// Elements of the logits that are held at once for `rows` rows.
pub fn tile_elements(vocab: usize, rows: usize) -> usize {
    TILE_ROWS.min(rows) * tile_columns(vocab)
}

/// Tiles of about the same width, in whole panels of a product.
fn tile_columns(vocab: usize) -> usize {
    let tiles = vocab.div_ceil(TILE_COLUMNS).max(1);
    vocab.div_ceil(tiles).next_multiple_of(32).min(vocab)
}

/// The buffer of a tile's logits, kept from pass to pass, and from a forward to its backward with what it holds.
#[derive(Clone, Debug, Default)]
pub struct Logits {
    values: Vec<f32>,
    /// The tile whose logits these are.
    tile: Option<(Range<usize>, Range<usize>)>,
}

impl Logits {
    /// Room for the logits of a tile; their content is whatever it was.
    fn room(&mut self, rows: &Range<usize>, columns: &Range<usize>) -> &mut [f32] {
        let len = rows.len() * columns.len();
        if self.values.len() < len {
            self.values = vec![0.0; len];
        }
        &mut self.values[..len]
    }
}

/// `0..len` in steps.
fn steps(len: usize, step: usize) -> impl DoubleEndedIterator<Item = Range<usize>> {
    (0..len).step_by(step.max(1)).map(move |start| start..(start + step).min(len))
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
    logits.tile = None;
    for rows in steps(targets.len(), TILE_ROWS) {
        let (logp, lse) = (&mut logp[rows.clone()], &mut lse[rows.clone()]);
        let x = &x[rows.start * head.hidden..rows.end * head.hidden];
        let mut sums = vec![SumExp::NONE; rows.len()];
        for columns in steps(head.vocab, tile_columns(head.vocab)) {
            let tile = logits.room(&rows, &columns);
            let (weight, shape) = head.part(rows.len(), &columns);
            linear::forward(x, weight, None, tile, Write::Replace, shape);
            let lines = tile.chunks(columns.len()).zip(&mut sums);
            lines.zip(&targets[rows.clone()]).zip(&mut *logp).share(|(((logits, sum), &target), logp)| {
                sum.add(SumExp::of(logits));
                let target = target as usize;
                if columns.contains(&target) {
                    *logp = logits[target - columns.start];
                }
            });
            logits.tile = Some((rows.clone(), columns));
        }
        for ((logp, lse), sum) in logp.iter_mut().zip(lse).zip(sums) {
            *lse = sum.log();
            *logp -= *lse;
        }
    }
}

/// `sum(exp(logits))` as `exp(max) * sum`, which does not overflow.
#[derive(Clone, Copy)]
struct SumExp {
    max: f32,
    sum: f32,
}

impl SumExp {
    const NONE: Self = Self { max: f32::NEG_INFINITY, sum: 0.0 };

    fn of(logits: &[f32]) -> Self {
        dispatch(
            #[inline(always)]
            || {
                let max = max_of(logits);
                if max == f32::NEG_INFINITY {
                    return Self::NONE;
                }
                let sum = sum_of(
                    logits,
                    #[inline(always)]
                    |x| exp(x - max),
                );
                Self { max, sum }
            },
        )
    }

    /// Adds the sum over other logits.
    fn add(&mut self, other: Self) {
        if self.max == f32::NEG_INFINITY {
            *self = other;
        } else if other.max > self.max {
            *self = Self { max: other.max, sum: other.sum + self.sum * (self.max - other.max).exp() };
        } else if other.max != f32::NEG_INFINITY {
            self.sum += other.sum * (other.max - self.max).exp();
        }
    }

    fn log(self) -> f32 {
        if self.max == f32::NEG_INFINITY { self.max } else { self.max + self.sum.ln() }
    }
}

/// `log(sum(exp(logits)))`, stable.
pub fn log_sum_exp(logits: &[f32]) -> f32 {
    SumExp::of(logits).log()
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
    for rows in steps(targets.len(), TILE_ROWS).rev() {
        let span = rows.start * head.hidden..rows.end * head.hidden;
        let mut write = Write::Replace;
        for columns in steps(head.vocab, tile_columns(head.vocab)).rev() {
            let (weight, shape) = head.part(rows.len(), &columns);
            let kept = logits.tile.take().is_some_and(|tile| tile == (rows.clone(), columns.clone()));
            let logits = logits.room(&rows, &columns);
            if !kept {
                linear::forward(&x[span.clone()], weight, None, logits, Write::Replace, shape);
            }
            logits
                .chunks_mut(columns.len())
                .zip(&targets[rows.clone()])
                .zip(&lse[rows.clone()])
                .zip(&d_logp[rows.clone()])
                .share(|(((logits, &target), &lse), &d)| {
                    dispatch(
                        #[inline(always)]
                        || {
                            for x in logits.iter_mut() {
                                *x = -d * exp(*x - lse);
                            }
                        },
                    );
                    let target = target as usize;
                    if columns.contains(&target) {
                        logits[target - columns.start] += d;
                    }
                });
            linear::backward_input(logits, weight, &mut dx[span.clone()], write, shape);
            write = Write::Accumulate;
            if let Some(dweight) = dweight.as_deref_mut() {
                let part = columns.start * head.hidden..columns.end * head.hidden;
                linear::backward_weight(&x[span.clone()], logits, &mut dweight[part], shape);
            }
        }
    }
}
