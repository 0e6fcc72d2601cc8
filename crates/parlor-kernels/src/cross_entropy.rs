//! The output head and the log-probability of the targets in one operation, tile by tile: the matrix `[tokens, vocab]` of
//! logits never exists. A tile is many rows of a part of the vocabulary, so that each part of the weight is read once for
//! them all; the softmax's sum is carried from part to part (Milakov and Gimelshein, "Online normalizer calculation for
//! softmax", 2018).
//!
//! The backward of a head that is trained recomputes the logits, but those of a vocabulary so small that all fit into two
//! tiles, which are kept. A frozen head needs none of that: the gradient of a row's log-probability by its input is linear in the
//! probabilities, so the forward carries it along from part to part as it carries the softmax's sum, and the
//! backward only multiplies.

use std::ops::Range;

use half::bf16;

use crate::parallel::ParallelExt as _;

use crate::cpu::simd::{dispatch, exp, max_of, round_into, sum_of};
use crate::linear::{self, LayerGradient, Shape};
use crate::{Arithmetic, ValuesMut, View, Write};

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

/// Tiles that are kept together, when there are no more.
const KEPT: usize = 2;

/// Bytes of the logits that are held at once for `rows` rows, and of what products of bf16 read instead of a tile of them.
pub fn tile_bytes(vocab: usize, rows: usize) -> usize {
    let (row_step, columns) = (tile_rows(rows, vocab), tile_columns(vocab));
    let tiles = rows.div_ceil(row_step.max(1)) * vocab.div_ceil(columns.max(1));
    let tile = row_step.min(rows) * columns;
    let held = if tiles <= KEPT { rows * vocab } else { tile };
    held * size_of::<f32>() + tile * size_of::<bf16>()
}

/// Rows of a tile: all of them where what is kept holds them, or parts of about the same size.
fn tile_rows(rows: usize, vocab: usize) -> usize {
    let parts = if rows * vocab <= KEPT * TILE_ROWS * TILE_COLUMNS { 1 } else { rows.div_ceil(TILE_ROWS) };
    rows.div_ceil(parts)
}

/// Tiles of about the same width, in whole panels of a product.
fn tile_columns(vocab: usize) -> usize {
    let tiles = vocab.div_ceil(TILE_COLUMNS).max(1);
    vocab.div_ceil(tiles).next_multiple_of(32).min(vocab)
}

/// The buffers of tiles of logits, kept from pass to pass, and from a forward to its backward with what they hold.
#[derive(Clone, Debug, Default)]
pub struct Logits {
    tiles: Vec<Kept>,
    /// The gradient of a tile's logits as products of bf16 read it.
    rounded: Vec<bf16>,
}

/// A buffer, and the tile whose logits it holds.
#[derive(Clone, Debug, Default)]
struct Kept {
    values: Vec<f32>,
    tile: Option<Tile>,
}

/// Rows and columns of a tile.
type Tile = (Range<usize>, Range<usize>);

/// The buffer of the tile with number `index` among all of a pass.
fn buffer(tiles: &mut Vec<Kept>, index: usize, all: usize) -> &mut Kept {
    let index = if all <= KEPT { index } else { 0 };
    if tiles.len() <= index {
        tiles.resize_with(index + 1, Kept::default);
    }
    &mut tiles[index]
}

/// What a tile's rows are rounded into, row by row, where their products are of bf16; nothing for each row otherwise.
fn rounded_rows<'a>(
    rounded: &'a mut Vec<bf16>,
    arithmetic: Arithmetic,
    (rows, columns): &Tile,
) -> impl Iterator<Item = &'a mut [bf16]> + use<'a> {
    let len = if arithmetic == Arithmetic::Bf16 { rows.len() * columns.len() } else { 0 };
    rounded.resize(len, bf16::ZERO);
    let mut all = rounded.chunks_mut(columns.len().max(1));
    std::iter::repeat_with(move || all.next().unwrap_or_default())
}

/// A tile's rows as a product reads them.
fn as_operand<'a>(values: &'a [f32], rounded: &'a [bf16]) -> View<'a> {
    if rounded.is_empty() { View::F32(values) } else { View::Bf16(rounded) }
}

impl Kept {
    /// Room for the logits of a tile; their content is whatever it was.
    fn room(&mut self, (rows, columns): &Tile) -> &mut [f32] {
        let len = rows.len() * columns.len();
        if self.values.len() < len {
            self.values = vec![0.0; len];
        }
        &mut self.values[..len]
    }
}

/// All tiles, in order.
fn tiles(rows: usize, vocab: usize) -> Vec<Tile> {
    let columns = steps(vocab, tile_columns(vocab));
    steps(rows, tile_rows(rows, vocab))
        .flat_map(|rows| columns.clone().map(move |columns| (rows.clone(), columns)))
        .collect()
}

/// `0..len` in steps.
fn steps(len: usize, step: usize) -> impl Iterator<Item = Range<usize>> + Clone {
    (0..len).step_by(step.max(1)).map(move |start| start..(start + step).min(len))
}

/// `logp[row] = log softmax(W x[row])[targets[row]]`, and `lse[row]`, the log of the softmax's denominator. Where a
/// backward of a frozen head will follow, also `slope[row]`, `[rows, hidden]`: the gradient of `logp[row]` by `x[row]`.
///
/// # Panics
/// When a target is not in the vocabulary: the caller checks.
pub fn forward(
    head: Head<'_>,
    (x, targets): (&[f32], &[u32]),
    (logp, lse): (&mut [f32], &mut [f32]),
    logits: &mut Logits,
    mut slope: Option<&mut [f32]>,
) {
    let (count, hidden) = (targets.len(), head.hidden);
    assert!(
        x.len() == count * hidden
            && logp.len() == count
            && lse.len() == count
            && slope.as_ref().is_none_or(|slope| slope.len() == x.len()),
        "sizes of the head's input"
    );
    if let Some(slope) = &mut slope {
        slope.fill(0.0);
    }
    let Logits { tiles: buffers, rounded } = logits;
    buffers.iter_mut().for_each(|kept| kept.tile = None);
    let mut sums = vec![SumExp::NONE; count];
    let tiles = tiles(count, head.vocab);
    for (index, tile) in tiles.iter().enumerate() {
        let (rows, columns) = tile;
        let x = &x[rows.start * hidden..rows.end * hidden];
        let kept = buffer(buffers, index, tiles.len());
        let values = kept.room(tile);
        let (weight, shape) = head.part(rows.len(), columns);
        linear::forward(x, weight, None, values, Write::Replace, shape);
        let targets = &targets[rows.clone()];
        let lines = values.chunks_mut(columns.len()).zip(&mut sums[rows.clone()]).zip(targets);
        let lines = lines.zip(&mut logp[rows.clone()]);
        match &mut slope {
            None => {
                lines.par_for_each(|(((logits, sum), &target), logp)| {
                    *sum = sum.with(SumExp::of(logits));
                    let target = target as usize;
                    if columns.contains(&target) {
                        *logp = logits[target - columns.start];
                    }
                });
                kept.tile = Some(tile.clone());
            }
            Some(slope) => {
                let slope = &mut slope[rows.start * hidden..rows.end * hidden];
                let beside =
                    slope.chunks_mut(hidden.max(1)).zip(rounded_rows(rounded, head.arithmetic, tile));
                lines.zip(beside).par_for_each(|((((logits, sum), &target), logp), (slope, rounded))| {
                    let before = *sum;
                    *sum = before.with(SumExp::of(logits));
                    // The target's own part is added exactly, at the end.
                    let own = (target as usize).checked_sub(columns.start).filter(|&at| at < columns.len());
                    if let Some(own) = own {
                        *logp = logits[own];
                    }
                    sum.weigh(logits, before, slope);
                    if let Some(own) = own {
                        logits[own] = 0.0;
                    }
                    round_into(logits, rounded);
                });
                linear::backward_input(as_operand(values, rounded), weight, slope, Write::Accumulate, shape);
            }
        }
    }
    for ((logp, lse), sum) in logp.iter_mut().zip(lse).zip(&sums) {
        *lse = sum.log();
        *logp -= *lse;
    }
    if let Some(slope) = slope {
        let mut wide = vec![0.0; hidden];
        let lines = slope.chunks_mut(hidden.max(1)).zip(targets).zip(&*logp).zip(&sums);
        for (((slope, &target), logp), sum) in lines {
            let own = head.weight.slice(target as usize * hidden..(target as usize + 1) * hidden);
            let (rest, inverse) = (1.0 - logp.exp(), 1.0 / sum.sum);
            own.widen_into(&mut wide);
            for (slope, own) in slope.iter_mut().zip(&wide) {
                *slope = own * rest - *slope * inverse;
            }
        }
    }
}

/// `dx[row] = d_logp[row] * slope[row]`: the backward of a frozen head.
pub fn backward_frozen(slope: &[f32], d_logp: &[f32], dx: &mut [f32]) {
    let hidden = slope.len() / d_logp.len().max(1);
    assert!(slope.len() == dx.len() && slope.len() == hidden * d_logp.len(), "sizes of the head's input");
    for ((dx, slope), d) in dx.chunks_mut(hidden.max(1)).zip(slope.chunks(hidden.max(1))).zip(d_logp) {
        for (dx, slope) in dx.iter_mut().zip(slope) {
            *dx = d * slope;
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

    /// The sum over these logits and others.
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

    /// Turns logits into their weights in this sum, and what was added up with those of the sum `before`.
    fn weigh(self, logits: &mut [f32], before: Self, total: &mut [f32]) {
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

/// `dx = ...` and `dweight (+)= ...` (when asked for). `logits` is the forward's, and nothing that the forward left there
/// outlives this.
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
        let span = rows.start * head.hidden..rows.end * head.hidden;
        let (weight, shape) = head.part(rows.len(), columns);
        let kept = buffer(buffers, index, tiles.len());
        let is_there = kept.tile.take().is_some_and(|there| there == *tile);
        let logits = kept.room(tile);
        if !is_there {
            linear::forward(&x[span.clone()], weight, None, logits, Write::Replace, shape);
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
        linear::backward_input(d_logits, weight, &mut dx[span.clone()], write, shape);
        if let Some((dweight, write)) = &mut dweight {
            let part = columns.start * head.hidden..columns.end * head.hidden;
            // Tiles are gone through from the last to the first.
            let write = if rows.end == targets.len() { *write } else { Write::Accumulate };
            let layer = LayerGradient { dy: d_logits, dw: dweight.slice(part), write };
            linear::backward_weights(View::F32(&x[span]), shape, &mut [layer]);
        }
    }
}
