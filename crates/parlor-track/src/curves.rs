//! The data of the loss plot, collected row by row, and its smoothing and thinning.
//!
//! Smoothing is a two-sided exponential moving average, so that a falling curve does not lag; at the ends it
//! is one-sided.

use crate::row::Row;

/// A value at a step.
pub(crate) type Point = (u64, f64);

/// Larger values are not drawn, since the arithmetic of the axes would overflow.
const LARGEST: f64 = 1e30;

/// The numbers behind `loss.svg`. Values that are not finite, or beyond 1e30, are left out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LossCurves {
    pub(crate) title: String,
    pub(crate) train: Vec<Point>,
    pub(crate) eval: Vec<Point>,
    pub(crate) learning_rate: Vec<Point>,
}

impl LossCurves {
    /// Empty curves; `title` is the plot's title.
    pub fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), ..Self::default() }
    }

    /// Adds `loss`, `eval_loss` and `learning_rate` of a row. Returns whether the row is one of an evaluation.
    pub fn push(&mut self, row: &Row) -> bool {
        for (name, points) in [
            ("loss", &mut self.train),
            ("eval_loss", &mut self.eval),
            ("learning_rate", &mut self.learning_rate),
        ] {
            if let Some(value) = row.number(name)
                && value.abs() <= LARGEST
            {
                points.push((row.step, value));
            }
        }
        row.number("eval_loss").is_some()
    }
}

/// The two-sided moving average over about a twentieth of the curve, at most 100 points on each side.
pub(crate) fn smoothed(points: &[Point]) -> Vec<Point> {
    let span = (points.len() as f64 / 40.0).clamp(1.0, 100.0);
    let keep = 1.0 - 1.0 / span;
    let before = decaying_sums(points.iter(), keep);
    let mut after = decaying_sums(points.iter().rev(), keep);
    after.reverse();
    let both = before.iter().zip(&after).zip(points);
    // The point itself is in both sums.
    both.map(|((before, after), (step, value))| {
        (*step, (before.0 + after.0 - value) / (before.1 + after.1 - 1.0))
    })
    .collect()
}

/// At each point, the sum of the values so far with weights that decay by `keep`, and the sum of the weights.
fn decaying_sums<'a>(points: impl Iterator<Item = &'a Point>, keep: f64) -> Vec<(f64, f64)> {
    let step = |sums: &mut (f64, f64), (_, value): &Point| {
        *sums = (keep * sums.0 + value, keep * sums.1 + 1.0);
        Some(*sums)
    };
    points.scan((0.0, 0.0), step).collect()
}

/// About `most` points at most that draw the same line: the lowest and highest of each interval, and the ends.
pub(crate) fn thinned(points: &[Point], most: usize) -> Vec<Point> {
    if points.len() <= most {
        return points.to_vec();
    }
    let stretch = points.len().div_ceil((most / 2).max(1));
    let mut kept = Vec::with_capacity(most + 2);
    kept.extend(points.first());
    for chunk in points.chunks(stretch) {
        let by_value = |a: &(usize, &Point), b: &(usize, &Point)| a.1.1.total_cmp(&b.1.1);
        let low = chunk.iter().enumerate().min_by(by_value);
        let high = chunk.iter().enumerate().max_by(by_value);
        if let (Some((i, low)), Some((j, high))) = (low, high) {
            kept.extend(if i <= j { [*low, *high] } else { [*high, *low] });
        }
    }
    kept.extend(points.last());
    kept.dedup();
    kept
}
