//! Dropout, noise and row norms against their definitions in f64.

use parlor_kernels::View;
use parlor_kernels::lora::{Dropout, column_products, row_norms, scale_columns};

#[test]
fn dropout_is_repeatable_and_has_its_probability() {
    for probability in [0.0f32, 0.1, 0.5, 0.9] {
        let count = 100_000;
        let mask = |seed| {
            let mut out = vec![0.0; count];
            Dropout { probability, seed }.apply(&vec![1.0; count], &mut out);
            out
        };
        let first = mask(7);
        assert_eq!(first, mask(7));
        let dropped = first.iter().filter(|&&value| value == 0.0).count() as f64 / count as f64;
        // Five standard deviations of the mean of 100,000 draws.
        let deviation = (f64::from(probability) * (1.0 - f64::from(probability)) / count as f64).sqrt();
        assert!((dropped - f64::from(probability)).abs() <= 5.0 * deviation, "{probability}: {dropped}");
        let kept = 1.0 / (1.0 - probability);
        assert!(first.iter().all(|&value| value == 0.0 || value == kept));
        if probability > 0.0 {
            assert_ne!(first, mask(8));
        }
        // The gradient has the mask of the values, and is accumulated.
        let mut dx = vec![1.0; count];
        Dropout { probability, seed: 7 }.apply_backward(&vec![2.0; count], &mut dx);
        assert!(dx.iter().zip(&first).all(|(dx, mask)| *dx == 1.0 + 2.0 * mask));
    }
}

#[test]
fn noise_is_uniform_between_its_bounds() {
    let count = 100_000;
    let noise = |seed| {
        let mut x = vec![1.0; count];
        parlor_kernels::random::add_uniform_noise(&mut x, 0.25, seed);
        x.iter().map(|x| f64::from(*x) - 1.0).collect::<Vec<_>>()
    };
    let first = noise(3);
    assert_eq!(first, noise(3));
    assert_ne!(first, noise(4));
    assert!(first.iter().all(|x| (-0.25..=0.25).contains(x)));
    // Five standard deviations of the means of x and x^2, whose variances on [-m, m] are m^2 / 3 and 4 m^4 / 45.
    let mean = |power: i32| first.iter().map(|x| x.powi(power)).sum::<f64>() / count as f64;
    let (root, m) = ((count as f64).sqrt(), 0.25f64);
    assert!(mean(1).abs() < 5.0 * m / 3f64.sqrt() / root, "{}", mean(1));
    assert!((mean(2) - m * m / 3.0).abs() < 5.0 * m * m * (4.0f64 / 45.0).sqrt() / root, "{}", mean(2));
}

fn check(outputs: usize, inputs: usize, rank: usize) {
    let value = |n: usize| ((n * 7919 + 13) % 1009) as f32 / 1009.0 - 0.5;
    let weight: Vec<f32> = (0..outputs * inputs).map(value).collect();
    let a: Vec<f32> = (0..rank * inputs).map(|n| value(n + 5)).collect();
    let b: Vec<f32> = (0..outputs * rank).map(|n| value(n + 11)).collect();
    let mut norms = vec![0.0; outputs];
    row_norms(View::F32(&weight), &a, &b, 0.7, &mut norms);
    for (row, norm) in norms.iter().enumerate() {
        let square = |column: usize| {
            let product: f64 =
                (0..rank).map(|k| f64::from(b[row * rank + k]) * f64::from(a[k * inputs + column])).sum();
            (f64::from(weight[row * inputs + column]) + f64::from(0.7f32) * product).powi(2)
        };
        let want = (0..inputs).map(square).sum::<f64>().sqrt();
        // Each element is rounded rank + 1 times, each time by 2^-24 of values below 1.
        let bound = (rank + 2) as f64 * 6e-8 * want.max(1.0) * 2.0;
        assert!((f64::from(*norm) - want).abs() <= bound, "{outputs}x{inputs}, r {rank}: {norm} {want}");
    }
}

#[test]
fn row_norms_are_those_of_the_sum() {
    for (outputs, inputs, rank) in [(1, 1, 1), (3, 7, 2), (5, 64, 16), (4, 9, 0)] {
        check(outputs, inputs, rank);
    }
}

#[test]
fn columns_are_scaled_and_summed() {
    let mut x = vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
    scale_columns(&mut x, &[2.0, 10.0, 0.5]);
    assert_eq!(x, [2.0, 20.0, 1.5, 8.0, 50.0, 3.0]);
    let mut out = vec![1.0, 0.0, 0.0];
    column_products(&x, &[1.0, 1.0, 2.0, 1.0, 0.0, 2.0], &mut out);
    assert_eq!(out, [11.0, 20.0, 9.0]);
}
