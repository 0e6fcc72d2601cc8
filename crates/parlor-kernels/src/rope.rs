//! Rotary position embedding (Su et al., 2021) in HF's layout: feature `i` of a head is rotated with feature
//! `i + head_dim / 2`.

use crate::cpu::simd::dispatch;
use crate::parallel::ParallelExt as _;

/// Direction of the rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The forward pass.
    Forward,
    /// The backward pass: the transpose of a rotation is the rotation by the opposite angle.
    Backward,
}

/// Cosines and sines of the angles of every row.
#[derive(Clone, Debug, Default)]
pub struct Angles {
    /// `[rows, head_dim / 2]`.
    pub cos: Vec<f32>,
    /// `[rows, head_dim / 2]`.
    pub sin: Vec<f32>,
    half: usize,
    /// The positions that `cos` and `sin` were computed for.
    positions: Vec<u32>,
    inverse_frequencies: Vec<f32>,
}

impl Angles {
    /// Computes the angles `position * inverse_frequency` into the same buffers, or keeps them if positions and
    /// frequencies are unchanged. The product is rounded to f32 before the sine, as in `transformers`.
    pub fn fill(&mut self, positions: &[u32], inverse_frequencies: &[f32]) {
        if self.positions == positions && self.inverse_frequencies == inverse_frequencies {
            return;
        }
        positions.clone_into(&mut self.positions);
        inverse_frequencies.clone_into(&mut self.inverse_frequencies);
        self.half = inverse_frequencies.len();
        self.cos.resize(positions.len() * self.half, 0.0);
        self.sin.resize(positions.len() * self.half, 0.0);
        let step = ROWS * self.half.max(1);
        let parts = self.cos.chunks_mut(step).zip(self.sin.chunks_mut(step)).zip(positions.chunks(ROWS));
        parts.par_for_each(|((cos, sin), positions)| {
            let angles = positions.iter().flat_map(|&position| {
                inverse_frequencies.iter().map(move |frequency| position as f32 * frequency)
            });
            for ((cos, sin), angle) in cos.iter_mut().zip(sin).zip(angles) {
                (*sin, *cos) = angle.sin_cos();
            }
        });
    }
}

/// Rows of a task.
const ROWS: usize = 16;

/// Rotates every head of `x` `[rows, heads * head_dim]` in place.
pub fn apply(x: &mut [f32], heads: usize, angles: &Angles, turn: Direction) {
    let half = angles.half;
    let width = heads * half * 2;
    if width == 0 || x.is_empty() {
        return;
    }
    assert_eq!(x.len() / width * half, angles.cos.len(), "angles for the rows of {} values", x.len());
    let parts = angles.cos.chunks(ROWS * half).zip(angles.sin.chunks(ROWS * half));
    x.chunks_mut(ROWS * width).zip(parts).par_for_each(|(rows, (cos, sin))| {
        dispatch(
            #[inline(always)]
            || {
                let sign = if turn == Direction::Forward { 1.0 } else { -1.0 };
                let angles = cos.chunks_exact(half).zip(sin.chunks_exact(half));
                for (row, (cos, sin)) in rows.chunks_exact_mut(width).zip(angles) {
                    for head in row.chunks_exact_mut(half * 2) {
                        let (low, high) = head.split_at_mut(half);
                        for i in 0..half {
                            let (a, b, s) = (low[i], high[i], sin[i] * sign);
                            low[i] = a * cos[i] - b * s;
                            high[i] = b * cos[i] + a * s;
                        }
                    }
                }
            },
        );
    });
}
