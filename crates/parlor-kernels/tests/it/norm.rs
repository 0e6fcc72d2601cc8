//! RMS norm and layer norm, values and gradients.

use parlor_kernels::norm::{self, LayerNormGradients, RowMoments};

use crate::{Numbers, close, differences, inner, wide};

const EPS: f64 = 1e-5;

fn rms(x: &[f64], weight: &[f64]) -> Vec<f64> {
    let row = |row: &[f64]| {
        let r = 1.0 / (row.iter().map(|x| x * x).sum::<f64>() / row.len() as f64 + EPS).sqrt();
        row.iter().zip(weight).map(|(x, w)| x * r * w).collect::<Vec<_>>()
    };
    x.chunks(weight.len()).flat_map(row).collect()
}

fn layer(x: &[f64], weight: &[f64], bias: &[f64]) -> Vec<f64> {
    let row = |row: &[f64]| {
        let n = row.len() as f64;
        let mean = row.iter().sum::<f64>() / n;
        let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
        let s = 1.0 / (variance + EPS).sqrt();
        row.iter().zip(weight).zip(bias).map(|((x, w), b)| (x - mean) * s * w + b).collect::<Vec<_>>()
    };
    x.chunks(weight.len()).flat_map(row).collect()
}

fn check(rows: usize, width: usize) {
    let mut numbers = Numbers::new((rows * 100 + width) as u64);
    let (x, weight, bias) = (numbers.vec(rows * width), numbers.vec(width), numbers.vec(width));
    let dy = numbers.vec(rows * width);
    let (wx, ww, wb) = (wide(&x), wide(&weight), wide(&bias));

    let (mut y, mut inverse) = (vec![0.0; x.len()], vec![0.0; rows]);
    norm::rms_forward(&x, &weight, EPS as f32, &mut y, &mut inverse);
    close("rms", &y, &rms(&wx, &ww));
    let (mut dx, mut dw) = (vec![0.0; x.len()], vec![0.0; width]);
    norm::rms_backward(&x, &weight, &inverse, &dy, &mut dx, Some(&mut dw));
    close("rms dx", &dx, &differences(&wx, |x| inner(&rms(x, &ww), &dy)));
    close("rms dw", &dw, &differences(&ww, |w| inner(&rms(&wx, w), &dy)));

    let mut moments = vec![RowMoments::default(); rows];
    norm::layer_forward(&x, (&weight, &bias), EPS as f32, &mut y, &mut moments);
    close("layer", &y, &layer(&wx, &ww, &wb));
    let (mut dx, mut dw, mut db) = (vec![0.0; x.len()], vec![0.0; width], vec![0.0; width]);
    let gradients = LayerNormGradients { weight: Some(&mut dw), bias: Some(&mut db) };
    norm::layer_backward(&x, &weight, &moments, &dy, &mut dx, gradients);
    close("layer dx", &dx, &differences(&wx, |x| inner(&layer(x, &ww, &wb), &dy)));
    close("layer dw", &dw, &differences(&ww, |w| inner(&layer(&wx, w, &wb), &dy)));
    close("layer db", &db, &differences(&wb, |b| inner(&layer(&wx, &ww, b), &dy)));
}

#[test]
fn norms_match_the_f64_reference() {
    for (rows, width) in [(1, 3), (2, 17), (3, 64), (5, 70), (130, 4)] {
        check(rows, width);
    }
}

#[test]
fn gradients_accumulate() {
    let mut numbers = Numbers::new(1);
    let (x, weight, dy) = (numbers.vec(12), numbers.vec(4), numbers.vec(12));
    let (mut y, mut inverse) = (vec![0.0; 12], vec![0.0; 3]);
    norm::rms_forward(&x, &weight, 1e-6, &mut y, &mut inverse);
    let (mut once, mut twice) = (vec![0.0; 12], vec![0.0; 12]);
    norm::rms_backward(&x, &weight, &inverse, &dy, &mut once, None);
    norm::rms_backward(&x, &weight, &inverse, &dy, &mut twice, None);
    norm::rms_backward(&x, &weight, &inverse, &dy, &mut twice, None);
    let doubled: Vec<f64> = once.iter().map(|&x| 2.0 * f64::from(x)).collect();
    close("twice", &twice, &doubled);
}
