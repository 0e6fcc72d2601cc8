//! What the loss plot shows, gathered row by row, and made small enough to draw: smoothing and thinning.
//!
//! Smoothing is TensorBoard's: an exponential moving average with the bias of its start taken out.

use crate::row::Row;

/// A value at a step.
pub(crate) type Point = (u64, f64);

/// The numbers behind `loss.svg`. Values that are not finite are left out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LossCurves {
    /// Stands over the plot.
    pub title: String,
    /// Training loss by step.
    pub train: Vec<(u64, f64)>,
    /// Evaluation loss by step.
    pub eval: Vec<(u64, f64)>,
    /// Learning rate by step.
    pub learning_rate: Vec<(u64, f64)>,
}

impl LossCurves {
    /// Nothing yet.
    pub fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), ..Self::default() }
    }

    /// Takes `loss`, `eval_loss` and `learning_rate` of a row; whether it was one of an evaluation.
    pub fn push(&mut self, row: &Row) -> bool {
        for (name, points) in [
            ("loss", &mut self.train),
            ("eval_loss", &mut self.eval),
            ("learning_rate", &mut self.learning_rate),
        ] {
            if let Some(value) = row.number(name)
                && value.is_finite()
            {
                points.push((row.step, value));
            }
        }
        row.number("eval_loss").is_some()
    }
}

/// The moving average over about a twentieth of the curve, at most 100 points.
pub(crate) fn smoothed(points: &[Point]) -> Vec<Point> {
    let span = (points.len() as f64 / 20.0).clamp(1.0, 100.0);
    let keep = 1.0 - 1.0 / span;
    let (mut sum, mut weight) = (0.0, 0.0);
    points
        .iter()
        .map(|(step, value)| {
            sum = keep * sum + (1.0 - keep) * value;
            weight = keep * weight + (1.0 - keep);
            (*step, sum / weight)
        })
        .collect()
}

/// At most about `most` points that look the same drawn: the lowest and highest of each stretch, and the ends.
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
