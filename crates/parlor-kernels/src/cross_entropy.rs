//! The output head fused with the log-probabilities of the targets, tile by tile: the logits `[tokens, vocab]` are never
//! materialised. A tile is many rows by a range of the vocabulary, so that each range of the weight is read once for all
//! these rows. The softmax is online: its sum is carried from tile to tile (Milakov and Gimelshein, "Online normalizer
//! calculation for softmax", 2018).
//!
//! The backward of a trained head recomputes the logits, unless all of them fit into two tiles, which are kept. A frozen
//! head needs no second product: the gradient of a row's log-probability by its input is linear in the probabilities, so
//! the forward accumulates it along with the softmax's sum, and the backward only multiplies by `d_logp`.

use std::ops::Range;

use half::bf16;

use crate::cpu::simd::{dispatch, exp, max_of, round_into, sum_of};
use crate::linear::{self, LayerGradient, Shape};
use crate::parallel::ParallelExt as _;
use crate::{Arithmetic, ValuesMut, View, Write};

/// Largest rows and columns of a tile: 32 MiB of logits.
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
    /// Precision of the matrix products; the softmax is f32.
    pub arithmetic: Arithmetic,
}

impl<'a> Head<'a> {
    /// The rows of the weight for the logits `columns`, and the shape of their product with `rows` rows.
    fn columns(&self, rows: usize, columns: &Range<usize>) -> (View<'a>, Shape) {
        let weight = self.weight.slice(columns.start * self.hidden..columns.end * self.hidden);
        let shape = Shape { rows, inputs: self.hidden, outputs: columns.len(), arithmetic: self.arithmetic };
        (weight, shape)
    }
}

/// Tiles that are kept for the backward, if there are no more in all.
const MAX_KEPT_TILES: usize = 2;

/// Bytes of the buffers of [`Logits`] for `rows` rows, the bf16 copy of a tile included.
pub fn tile_bytes(vocab: usize, rows: usize) -> usize {
    let (row_step, columns) = (tile_rows(rows, vocab), tile_columns(vocab));
    let tiles = rows.div_ceil(row_step.max(1)) * vocab.div_ceil(columns.max(1));
    let tile = row_step.min(rows) * columns;
    let held = if tiles <= MAX_KEPT_TILES { rows * vocab } else { tile };
    held * size_of::<f32>() + tile * size_of::<bf16>()
}

/// Rows of a tile: all if the kept tiles can hold them, else ranges of about the same size.
fn tile_rows(rows: usize, vocab: usize) -> usize {
    let parts =
        if rows * vocab <= MAX_KEPT_TILES * TILE_ROWS * TILE_COLUMNS { 1 } else { rows.div_ceil(TILE_ROWS) };
    rows.div_ceil(parts)
}

/// Columns of a tile: ranges of about the same size, in whole panels of the product.
fn tile_columns(vocab: usize) -> usize {
    let tiles = vocab.div_ceil(TILE_COLUMNS).max(1);
    vocab.div_ceil(tiles).next_multiple_of(32).min(vocab)
}

/// Buffers of logits, reused from pass to pass. From a forward to its backward they also keep their contents.
#[derive(Clone, Debug, Default)]
pub struct Logits {
    tiles: Vec<LogitTile>,
    /// The gradient of a tile's logits, rounded for bf16 products.
    rounded: Vec<bf16>,
}

/// A buffer, and the tile whose logits it contains.
#[derive(Clone, Debug, Default)]
struct LogitTile {
    values: Vec<f32>,
    tile: Option<TileRange>,
}

/// Rows and columns of a tile.
type TileRange = (Range<usize>, Range<usize>);

/// The buffer of tile `index` of `all` tiles of a pass.
fn buffer(tiles: &mut Vec<LogitTile>, index: usize, all: usize) -> &mut LogitTile {
    let index = if all <= MAX_KEPT_TILES { index } else { 0 };
    if tiles.len() <= index {
        tiles.resize_with(index + 1, LogitTile::default);
    }
    &mut tiles[index]
}

/// Buffers for the rows of a tile rounded to bf16, row by row; empty slices if the products are f32.
fn rounded_rows<'a>(
    rounded: &'a mut Vec<bf16>,
    arithmetic: Arithmetic,
    (rows, columns): &TileRange,
) -> impl Iterator<Item = &'a mut [bf16]> + use<'a> {
    let len = if arithmetic == Arithmetic::Bf16 { rows.len() * columns.len() } else { 0 };
    rounded.resize(len, bf16::ZERO);
    let mut all = rounded.chunks_mut(columns.len().max(1));
    std::iter::repeat_with(move || all.next().unwrap_or_default())
}

/// The rows of a tile as operand of a product: the rounded ones if there are any.
fn as_operand<'a>(values: &'a [f32], rounded: &'a [bf16]) -> View<'a> {
    if rounded.is_empty() { View::F32(values) } else { View::Bf16(rounded) }
}

impl LogitTile {
    /// A buffer for the logits of a tile, with arbitrary contents.
    fn resized(&mut self, (rows, columns): &TileRange) -> &mut [f32] {
        let len = rows.len() * columns.len();
        if self.values.len() < len {
            self.values = vec![0.0; len];
        }
        &mut self.values[..len]
    }
}

/// All tiles, in order.
fn tiles(rows: usize, vocab: usize) -> Vec<TileRange> {
    let columns = ranges(vocab, tile_columns(vocab));
    ranges(rows, tile_rows(rows, vocab))
        .flat_map(|rows| columns.clone().map(move |columns| (rows.clone(), columns)))
        .collect()
}

/// `0..len` in ranges of `step`.
fn ranges(len: usize, step: usize) -> impl Iterator<Item = Range<usize>> + Clone {
    (0..len).step_by(step.max(1)).map(move |start| start..(start + step).min(len))
}

/// `logp[row] = log softmax(W x[row])[targets[row]]`, and `lse[row]`, the log of the softmax's denominator. For the
/// backward of a frozen head also `head_gradient` `[rows, hidden]`: the gradient of `logp[row]` by `x[row]`.
///
/// # Panics
/// When a target is not in the vocabulary: the caller checks.
///
/// ```
/// use parlor_kernels::cross_entropy::{self, Head, Logits};
/// use parlor_kernels::{Arithmetic, View};
///
/// let (vocab, hidden) = (4, 2);
/// let weight = vec![0.0; vocab * hidden];
/// let head = Head { weight: View::F32(&weight), vocab, hidden, arithmetic: Arithmetic::F32 };
/// let (mut logp, mut lse) = ([0.0], [0.0]);
/// let mut logits = Logits::default();
/// cross_entropy::forward(head, (&[1.0, 2.0], &[3]), (&mut logp, &mut lse), &mut logits, None);
/// // All logits are 0, so each of the four tokens has probability 1/4.
/// assert!((logp[0] + 4f32.ln()).abs() < 1e-6);
/// ```
pub fn forward(
    head: Head<'_>,
    (x, targets): (&[f32], &[u32]),
    (logp, lse): (&mut [f32], &mut [f32]),
    logits: &mut Logits,
    mut head_gradient: Option<&mut [f32]>,
) {
    let (count, hidden) = (targets.len(), head.hidden);
    assert!(
        x.len() == count * hidden
            && logp.len() == count
            && lse.len() == count
            && head_gradient.as_ref().is_none_or(|head_gradient| head_gradient.len() == x.len()),
        "sizes of the head's input"
    );
    if let Some(head_gradient) = &mut head_gradient {
        head_gradient.fill(0.0);
    }
    let Logits { tiles: buffers, rounded } = logits;
    buffers.iter_mut().for_each(|kept| kept.tile = None);
    let mut sums = vec![RunningSoftmax::NONE; count];
    let tiles = tiles(count, head.vocab);
    for (index, tile) in tiles.iter().enumerate() {
        let (rows, columns) = tile;
        let x = &x[rows.start * hidden..rows.end * hidden];
        let kept = buffer(buffers, index, tiles.len());
        let values = kept.resized(tile);
        let (weight, shape) = head.columns(rows.len(), columns);
        linear::forward(x, weight, None, values, Write::Replace, shape);
        let targets = &targets[rows.clone()];
        let lines = values.chunks_mut(columns.len()).zip(&mut sums[rows.clone()]).zip(targets);
        let lines = lines.zip(&mut logp[rows.clone()]);
        match &mut head_gradient {
            None => {
                lines.par_for_each(|(((logits, sum), &target), logp)| {
                    *sum = sum.with(RunningSoftmax::of(logits));
                    let target = target as usize;
                    if columns.contains(&target) {
                        *logp = logits[target - columns.start];
                    }
                });
                kept.tile = Some(tile.clone());
            }
            Some(head_gradient) => {
                let head_gradient = &mut head_gradient[rows.start * hidden..rows.end * hidden];
                let rows_of_gradient =
                    head_gradient.chunks_mut(hidden.max(1)).zip(rounded_rows(rounded, head.arithmetic, tile));
                lines.zip(rows_of_gradient).par_for_each(
                    |((((logits, sum), &target), logp), (head_gradient, rounded))| {
                        let before = *sum;
                        *sum = before.with(RunningSoftmax::of(logits));
                        // The target's own term is added exactly, at the end.
                        let own =
                            (target as usize).checked_sub(columns.start).filter(|&at| at < columns.len());
                        if let Some(own) = own {
                            *logp = logits[own];
                        }
                        sum.rescale(logits, before, head_gradient);
                        if let Some(own) = own {
                            logits[own] = 0.0;
                        }
                        round_into(logits, rounded);
                    },
                );
                linear::backward_input(
                    as_operand(values, rounded),
                    weight,
                    head_gradient,
                    Write::Accumulate,
                    shape,
                );
            }
        }
    }
    for ((logp, lse), sum) in logp.iter_mut().zip(lse).zip(&sums) {
        *lse = sum.log();
        *logp -= *lse;
    }
    if let Some(head_gradient) = head_gradient {
        let mut wide = vec![0.0; hidden];
        let lines = head_gradient.chunks_mut(hidden.max(1)).zip(targets).zip(&*logp).zip(&sums);
        for (((head_gradient, &target), logp), sum) in lines {
            let own = head.weight.slice(target as usize * hidden..(target as usize + 1) * hidden);
            let (rest, inverse) = (1.0 - logp.exp(), 1.0 / sum.sum);
            own.widen_into(&mut wide);
            for (head_gradient, own) in head_gradient.iter_mut().zip(&wide) {
                *head_gradient = own * rest - *head_gradient * inverse;
            }
        }
    }
}

/// `dx[row] = d_logp[row] * head_gradient[row]`: the backward of a frozen head.
pub fn backward_frozen(head_gradient: &[f32], d_logp: &[f32], dx: &mut [f32]) {
    let hidden = head_gradient.len() / d_logp.len().max(1);
    assert!(
        head_gradient.len() == dx.len() && head_gradient.len() == hidden * d_logp.len(),
        "sizes of the head's input"
    );
    for ((dx, head_gradient), d) in
        dx.chunks_mut(hidden.max(1)).zip(head_gradient.chunks(hidden.max(1))).zip(d_logp)
    {
        for (dx, head_gradient) in dx.iter_mut().zip(head_gradient) {
            *dx = d * head_gradient;
        }
    }
}

/// `sum(exp(logits))` over the logits so far, as `exp(max) * sum`, which does not overflow.
#[derive(Clone, Copy)]
struct RunningSoftmax {
    max: f32,
    sum: f32,
}

impl RunningSoftmax {
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

    /// The sum over the logits of both.
    fn with(self, other: Self) -> Self {
        if self.max == f32::NEG_INFINITY {
            other
        } else if other.max > self.max {
            Self { max: other.max, sum: other.sum + self.sum * (self.max - other.max).exp() }
        } else if other.max != f32::NEG_INFINITY {
            Self { max: self.max, sum: self.sum + other.sum * (other.max - self.max).exp() }
        } else {
            self
        }
    }

    /// Replaces logits by `exp(logit - max)`, and rescales `total`, a sum weighted relative to the maximum of `before`.
    fn rescale(self, logits: &mut [f32], before: Self, total: &mut [f32]) {
        dispatch(
            #[inline(always)]
            || {
                for x in logits.iter_mut() {
                    *x = exp(*x - self.max);
                }
                if before.max != self.max {
                    let factor = exp(before.max - self.max);
                    for x in total.iter_mut() {
                        *x *= factor;
                    }
                }
            },
        );
    }

    /// The log of the sum.
    fn log(self) -> f32 {
        if self.max == f32::NEG_INFINITY { self.max } else { self.max + self.sum.ln() }
    }
}

/// Inputs of the backward: those of the forward, its result, and the gradient.
#[derive(Clone, Copy, Debug)]
pub struct BackwardInputs<'a> {
    /// Input, `[rows, hidden]`.
    pub x: &'a [f32],
    /// Target of each row.
    pub targets: &'a [u32],
    /// The forward's `lse`.
    pub lse: &'a [f32],
    /// Derivative of the loss by each row's log-probability.
    pub d_logp: &'a [f32],
}

/// `dx = ...`, and `dweight (+)= ...` if given. `logits` are the forward's buffers; the tiles that it kept there are
/// consumed.
pub fn backward(
    head: Head<'_>,
    rows: BackwardInputs<'_>,
    dx: &mut [f32],
    mut dweight: Option<(ValuesMut<'_>, Write)>,
    logits: &mut Logits,
) {
    let BackwardInputs { x, targets, lse, d_logp } = rows;
    assert!(x.len() == dx.len() && x.len() == targets.len() * head.hidden, "sizes of the head's input");
    let Logits { tiles: buffers, rounded } = logits;
    let tiles = tiles(targets.len(), head.vocab);
    let mut started = targets.len();
    for (index, tile) in tiles.iter().enumerate().rev() {
        let (rows, columns) = tile;
        let inputs = rows.start * head.hidden..rows.end * head.hidden;
        let (weight, shape) = head.columns(rows.len(), columns);
        let kept = buffer(buffers, index, tiles.len());
        let is_kept = kept.tile.take().is_some_and(|kept| kept == *tile);
        let logits = kept.resized(tile);
        if !is_kept {
            linear::forward(&x[inputs.clone()], weight, None, logits, Write::Replace, shape);
        }
        logits
            .chunks_mut(columns.len())
            .zip(&targets[rows.clone()])
            .zip(&lse[rows.clone()])
            .zip(&d_logp[rows.clone()])
            .zip(rounded_rows(rounded, head.arithmetic, tile))
            .par_for_each(|((((logits, &target), &lse), &d), rounded)| {
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
                round_into(logits, rounded);
            });
        let d_logits = as_operand(logits, rounded);
        let write = if rows.start < started { Write::Replace } else { Write::Accumulate };
        started = rows.start;
        linear::backward_input(d_logits, weight, &mut dx[inputs.clone()], write, shape);
        if let Some((dweight, write)) = &mut dweight {
            let part = columns.start * head.hidden..columns.end * head.hidden;
            // The tiles are processed from the last to the first.
            let write = if rows.end == targets.len() { *write } else { Write::Accumulate };
            let layer = LayerGradient { dy: d_logits, dw: dweight.slice(part), write };
            linear::backward_weights(View::F32(&x[inputs]), shape, &mut [layer]);
        }
    }
}
