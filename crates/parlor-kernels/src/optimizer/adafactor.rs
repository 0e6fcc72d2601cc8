//! Adafactor (Shazeer and Stern, 2018): the second moments of a matrix, factored into a mean per row and per column.
//!
//! Source: `transformers.optimization.Adafactor` with `scale_parameter=False, relative_step=False`, as HF's `Trainer`
//! configures it. Leaves out: the first moment, relative steps, scaling by the size of the parameter.

use super::parameter::CHUNK;
use crate::cpu::simd::dispatch;
use crate::parallel::ParallelExt as _;

/// Added to squared gradients (HF's `eps[0]`).
const EPSILON: f32 = 1e-30;
/// Exponent of the step number in the decay of the moments (HF's `decay_rate`).
const DECAY_RATE: f64 = -0.8;
/// Largest root mean square of an update, before the learning rate (HF's `clip_threshold`).
const CLIP_THRESHOLD: f64 = 1.0;
/// Tasks that the rows of a matrix are divided into, at most; independent of the number of threads, so that sums are too.
const MAX_TASKS: usize = 64;

/// Hyperparameters of one Adafactor step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adafactor {
    /// Learning rate of this step.
    pub lr: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Number of this step, from 1.
    pub step: u64,
}

impl Adafactor {
    fn beta2(&self) -> f64 {
        1.0 - (self.step as f64).powf(DECAY_RATE)
    }

    /// The factors of the parameter and of its update, given the update's sum of squares.
    fn factors(&self, squares: f64, elements: usize) -> (f32, f32) {
        let rms = (squares / elements.max(1) as f64).sqrt();
        let clip = (rms / CLIP_THRESHOLD).max(1.0);
        ((1.0 - self.weight_decay * self.lr) as f32, (self.lr / clip) as f32)
    }
}

/// One step of a matrix `[rows.len(), columns.len()]`. `rows` and `columns` are the running means of the squared gradient
/// by row and by column. `scale` multiplies the gradient first.
pub fn adafactor_matrix(
    parameter: &mut [f32],
    gradient: &[f32],
    (rows, columns): (&mut [f32], &mut [f32]),
    scale: f32,
    hyper: &Adafactor,
) {
    let (height, width) = (rows.len(), columns.len());
    assert!(parameter.len() == height * width && gradient.len() == parameter.len(), "lengths of a matrix");
    if parameter.is_empty() {
        return;
    }
    let beta2 = hyper.beta2();
    let task_rows = height.div_ceil(MAX_TASKS).max(1);
    // Per task: the sums by column. In f64, since an embedding has more rows than an f32 sum has precision for.
    let sums: Vec<Vec<f64>> =
        rows.chunks_mut(task_rows).zip(gradient.chunks(task_rows * width)).par_map(|(rows, gradient)| {
            let mut by_column = vec![0.0f64; width];
            dispatch(
                #[inline(always)]
                || {
                    for (row, gradient) in rows.iter_mut().zip(gradient.chunks_exact(width)) {
                        let mut sum = 0.0;
                        for (column, g) in by_column.iter_mut().zip(gradient) {
                            let g = g * scale;
                            let square = f64::from(g * g + EPSILON);
                            sum += square;
                            *column += square;
                        }
                        *row = (f64::from(*row) * beta2 + sum / width as f64 * (1.0 - beta2)) as f32;
                    }
                },
            );
            by_column
        });
    for (index, column) in columns.iter_mut().enumerate() {
        let sum: f64 = sums.iter().map(|by_column| by_column[index]).sum();
        *column = (f64::from(*column) * beta2 + sum / height as f64 * (1.0 - beta2)) as f32;
    }
    let mean = rows.iter().map(|&row| f64::from(row)).sum::<f64>() / height as f64;
    let by_row: Vec<f32> = rows.iter().map(|&row| (1.0 / (f64::from(row) / mean).sqrt()) as f32).collect();
    let by_column: Vec<f32> = columns.iter().map(|&column| 1.0 / column.sqrt()).collect();

    let squares: Vec<f64> =
        by_row.chunks(task_rows).zip(gradient.chunks(task_rows * width)).par_map(|(by_row, gradient)| {
            let mut sum = 0.0f64;
            for (row, gradient) in by_row.iter().zip(gradient.chunks_exact(width)) {
                for (column, g) in by_column.iter().zip(gradient) {
                    sum += f64::from(row * column * (g * scale)).powi(2);
                }
            }
            sum
        });
    let (keep, rate) = hyper.factors(squares.iter().sum(), parameter.len());
    parameter
        .chunks_mut(task_rows * width)
        .zip(gradient.chunks(task_rows * width))
        .zip(by_row.chunks(task_rows))
        .par_for_each(|((parameter, gradient), by_row)| {
            dispatch(
                #[inline(always)]
                || {
                    let both = parameter.chunks_exact_mut(width).zip(gradient.chunks_exact(width));
                    for ((parameter, gradient), row) in both.zip(by_row) {
                        for ((p, g), column) in parameter.iter_mut().zip(gradient).zip(&by_column) {
                            *p = *p * keep - row * column * (g * scale) * rate;
                        }
                    }
                },
            );
        });
}

/// One step of a vector. `exp_avg_sq` is the running mean of the squared gradient. `scale` multiplies the gradient
/// first.
pub fn adafactor_vector(
    parameter: &mut [f32],
    gradient: &[f32],
    exp_avg_sq: &mut [f32],
    scale: f32,
    hyper: &Adafactor,
) {
    let n = parameter.len();
    assert!(gradient.len() == n && exp_avg_sq.len() == n, "lengths of parameter, gradient and moment");
    let (b2, a2) = (hyper.beta2() as f32, (1.0 - hyper.beta2()) as f32);
    let squares: Vec<f64> = exp_avg_sq.chunks_mut(CHUNK).zip(gradient.chunks(CHUNK)).par_map(|(v, g)| {
        let mut sum = 0.0f64;
        for (v, g) in v.iter_mut().zip(g) {
            let g = g * scale;
            *v = *v * b2 + (g * g + EPSILON) * a2;
            sum += f64::from(g / v.sqrt()).powi(2);
        }
        sum
    });
    let (keep, rate) = hyper.factors(squares.iter().sum(), n);
    for ((p, g), v) in parameter.iter_mut().zip(gradient).zip(exp_avg_sq) {
        *p = *p * keep - g * scale / v.sqrt() * rate;
    }
}
