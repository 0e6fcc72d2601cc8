//! Muon (Jordan, 2024): momentum orthogonalised by a Newton-Schulz iteration, which brings its singular values near 1.
//!
//! Source: `torch.optim.Muon`, whose iteration is in bf16; it is in f32 here. The learning rate scaling that matches
//! AdamW's update size is from Liu et al. (2025), "Muon is Scalable for LLM Training".

use super::parameter::CHUNK;
use crate::matmul::Write;
use crate::matmul::gemm_crate::{Mat, MatMut, gemm};
use crate::parallel::ParallelExt as _;

/// Coefficients of the quintic iteration.
const A: f32 = 3.4445;
const B: f32 = -4.7750;
const C: f32 = 2.0315;
/// Lower bound of the norm that the momentum is divided by.
const EPSILON: f64 = 1e-7;

/// How the learning rate depends on the shape of a matrix (PyTorch's `adjust_lr_fn`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdjustRate {
    /// `sqrt(max(1, rows / columns))`.
    Original,
    /// `0.2 sqrt(max(rows, columns))`: matches the size of AdamW's updates, so that one learning rate serves both.
    MatchRmsAdamW,
}

/// Which momentum the update uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Momentum {
    /// The momentum after this step.
    Plain,
    /// Nesterov: one more step along this gradient.
    Nesterov,
}

/// Hyperparameters of one Muon step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Muon {
    /// Learning rate of this step, before the adjustment.
    pub lr: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Decay of the momentum.
    pub momentum: f64,
    /// Which momentum the update uses.
    pub kind: Momentum,
    /// Newton-Schulz iterations.
    pub steps: u32,
    /// How the learning rate depends on the shape.
    pub adjust: AdjustRate,
}

/// Buffers of an update, reused from matrix to matrix: at most three times the largest matrix.
#[derive(Clone, Debug, Default)]
pub struct MuonScratch {
    update: Vec<f32>,
    next: Vec<f32>,
    gram: Vec<f32>,
    polynomial: Vec<f32>,
}

/// One Muon step of a matrix `[rows, columns]`. `scale` multiplies the gradient first.
pub fn muon(
    parameter: &mut [f32],
    gradient: &[f32],
    momentum: &mut [f32],
    ((rows, columns), scale): ((usize, usize), f32),
    hyper: &Muon,
    scratch: &mut MuonScratch,
) {
    let n = rows * columns;
    assert!(
        parameter.len() == n && gradient.len() == n && momentum.len() == n,
        "lengths of a {rows}x{columns} matrix, its gradient and its momentum"
    );
    if n == 0 {
        return;
    }
    let add = (1.0 - hyper.momentum) as f32;
    scratch.update.resize(n, 0.0);
    scratch
        .update
        .chunks_mut(CHUNK)
        .zip(gradient.chunks(CHUNK))
        .zip(momentum.chunks_mut(CHUNK))
        .par_for_each(|((update, g), m)| {
            for ((update, g), m) in update.iter_mut().zip(g).zip(m) {
                let g = g * scale;
                *m += (g - *m) * add;
                *update = match hyper.kind {
                    Momentum::Plain => *m,
                    Momentum::Nesterov => *m + (g - *m) * add,
                };
            }
        });
    orthogonalise(rows, columns, hyper.steps, scratch);
    let ratio = match hyper.adjust {
        AdjustRate::Original => (rows as f64 / columns as f64).max(1.0).sqrt(),
        AdjustRate::MatchRmsAdamW => 0.2 * (rows.max(columns) as f64).sqrt(),
    };
    let (keep, rate) = ((1.0 - hyper.lr * hyper.weight_decay) as f32, (hyper.lr * ratio) as f32);
    parameter.chunks_mut(CHUNK).zip(scratch.update.chunks(CHUNK)).par_for_each(|(p, update)| {
        for (p, update) in p.iter_mut().zip(update) {
            *p = *p * keep - rate * update;
        }
    });
}

/// Replaces `scratch.update`, `[rows, columns]`, by approximately the nearest matrix with orthonormal rows (or columns,
/// if there are fewer): its singular values end between 0.7 and 1.2.
fn orthogonalise(rows: usize, columns: usize, steps: u32, scratch: &mut MuonScratch) {
    let MuonScratch { update, next, gram, polynomial } = scratch;
    let squares: f64 =
        update.chunks(CHUNK).map(|chunk| chunk.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>()).sum();
    let norm = squares.sqrt().max(EPSILON) as f32;
    update.iter_mut().for_each(|x| *x /= norm);
    let side = rows.min(columns);
    next.resize(update.len(), 0.0);
    gram.resize(side * side, 0.0);
    polynomial.resize(side * side, 0.0);
    for _ in 0..steps {
        let x = Mat::new(update, rows, columns, columns);
        // The Gram matrix over the shorter side.
        let (left, right) = if rows <= columns { (x, x.transposed()) } else { (x.transposed(), x) };
        gemm(MatMut::new(gram, side, side, side), left, right, 1.0, Write::Replace);
        scaled(gram, B, polynomial);
        let square = Mat::new(gram, side, side, side);
        gemm(MatMut::new(polynomial, side, side, side), square, square, C, Write::Accumulate);
        scaled(update, A, next);
        let (x, polynomial) =
            (Mat::new(update, rows, columns, columns), Mat::new(polynomial, side, side, side));
        let (left, right) = if rows <= columns { (polynomial, x) } else { (x, polynomial) };
        gemm(MatMut::new(next, rows, columns, columns), left, right, 1.0, Write::Accumulate);
        std::mem::swap(update, next);
    }
}

/// `to = factor * from`.
fn scaled(from: &[f32], factor: f32, to: &mut [f32]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = from * factor;
    }
}
