//! Updates against the formulas of their sources in f64.

use half::bf16;
use parlor_kernels::optimizer::{
    self, Adafactor, AdamW, AdjustRate, Lion, Moments8bit, Momentum, Muon, Parameter, Sgd,
};
use parlor_kernels::quant::{DYNAMIC_MAP_BLOCK, DynamicMap, Sign};
use parlor_kernels::{ValuesMut, View};

use crate::{Numbers, close, close_within, wide};

#[test]
fn adamw_follows_torch() {
    let mut numbers = Numbers::new(11);
    let n = 40_001; // more than one chunk, odd
    let mut p = numbers.vec(n);
    let (mut m, mut v) = (vec![0.0; n], vec![0.0; n]);
    let (mut wp, mut wm, mut wv) = (wide(&p), vec![0.0; n], vec![0.0; n]);
    for step in 1..=5u64 {
        let g = numbers.vec(n);
        let lr = 1e-2 / step as f64;
        let hyper = AdamW { lr, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.1, step };
        optimizer::adamw(Parameter::f32(&mut p, &g), &mut m, &mut v, 0.5, &hyper);
        let (b1, b2) = (0.9f64, 0.999f64);
        for i in 0..n {
            let g = 0.5 * f64::from(g[i]);
            wp[i] *= 1.0 - lr * 0.1;
            wm[i] = b1 * wm[i] + (1.0 - b1) * g;
            wv[i] = b2 * wv[i] + (1.0 - b2) * g * g;
            let (mh, vh) = (wm[i] / (1.0 - b1.powi(step as i32)), wv[i] / (1.0 - b2.powi(step as i32)));
            wp[i] -= lr * mh / (vh.sqrt() + 1e-8);
        }
    }
    close("parameter", &p, &wp);
    close("first moment", &m, &wm);
    close("second moment", &v, &wv);
}

#[test]
fn sgd_follows_torch() {
    let mut numbers = Numbers::new(12);
    let (mut p, mut buffer) = (numbers.vec(77), vec![0.0; 77]);
    let mut plain = p.clone();
    let (mut wp, mut wb, mut wplain) = (wide(&p), vec![0.0; 77], wide(&p));
    for _ in 0..4 {
        let g = numbers.vec(77);
        let hyper = Sgd { lr: 0.1, momentum: 0.9, weight_decay: 0.01 };
        optimizer::sgd(Parameter::f32(&mut p, &g), Some(&mut buffer), 2.0, &hyper);
        optimizer::sgd(Parameter::f32(&mut plain, &g), None, 2.0, &hyper);
        for i in 0..77 {
            let g = 2.0 * f64::from(g[i]);
            wb[i] = 0.9 * wb[i] + g + 0.01 * wp[i];
            wp[i] -= 0.1 * wb[i];
            wplain[i] -= 0.1 * (g + 0.01 * wplain[i]);
        }
    }
    close("momentum", &p, &wp);
    close("plain", &plain, &wplain);
}

#[test]
fn lion_follows_the_paper() {
    let mut numbers = Numbers::new(13);
    let n = 40_001;
    let (mut p, mut m) = (numbers.vec(n), vec![0.0; n]);
    p[0] = 0.5; // its gradient stays 0: decayed, not moved
    let (mut wp, mut wm) = (wide(&p), vec![0.0; n]);
    for _ in 0..5 {
        let mut g = numbers.vec(n);
        g[0] = 0.0;
        let hyper = Lion { lr: 1e-2, beta1: 0.9, beta2: 0.99, weight_decay: 0.1 };
        optimizer::lion(Parameter::f32(&mut p, &g), &mut m, 0.5, &hyper);
        for i in 0..n {
            let g = 0.5 * f64::from(g[i]);
            let direction = 0.9 * wm[i] + 0.1 * g;
            let decayed = wp[i] * (1.0 - 1e-2 * 0.1);
            let signs: &[f64] = if direction == 0.0 {
                &[0.0]
            } else if direction.abs() < 1e-7 {
                // In f32 the sign of so small a direction may be either: its terms are below 0.05, and the roundings of
                // five steps, at most four each, are below 20 * 2^-24 * 0.05 = 6e-8.
                &[-1.0, 0.0, 1.0]
            } else {
                &[direction.signum()]
            };
            let error = |moved: f64| (f64::from(p[i]) - moved).abs();
            let moved = signs.iter().map(|sign| decayed - 1e-2 * sign);
            wp[i] = moved.min_by(|a, b| error(*a).total_cmp(&error(*b))).unwrap();
            wm[i] = 0.99 * wm[i] + 0.01 * g;
        }
    }
    close("parameter", &p, &wp);
    close("momentum", &m, &wm);
    // Five products of numbers below 0.5, with a factor that is rounded too.
    assert!((f64::from(p[0]) - 0.5 * 0.999f64.powi(5)).abs() < 5.0 * 0.5 * 2f64.powi(-23));
}

#[test]
fn adafactor_of_a_matrix_follows_transformers() {
    // More rows than tasks, so that a task has several rows and the last one fewer.
    let (height, width) = (333, 45);
    let mut numbers = Numbers::new(14);
    let mut p = numbers.vec(height * width);
    let (mut row, mut column) = (vec![0.0; height], vec![0.0; width]);
    let (mut wp, mut wr, mut wc) = (wide(&p), vec![0.0; height], vec![0.0; width]);
    for step in 1..=4u64 {
        let g = numbers.vec(height * width);
        let hyper = Adafactor { lr: 1e-2, weight_decay: 0.1, step };
        optimizer::adafactor_matrix(&mut p, &g, (&mut row, &mut column), 3.0, &hyper);
        let b2 = 1.0 - (step as f64).powf(-0.8);
        let g: Vec<f64> = g.iter().map(|&g| 3.0 * f64::from(g)).collect();
        let at = |r: usize, c: usize| g[r * width + c] * g[r * width + c] + 1e-30;
        for (r, row) in wr.iter_mut().enumerate() {
            let mean = (0..width).map(|c| at(r, c)).sum::<f64>() / width as f64;
            *row = b2 * *row + (1.0 - b2) * mean;
        }
        for (c, column) in wc.iter_mut().enumerate() {
            let mean = (0..height).map(|r| at(r, c)).sum::<f64>() / height as f64;
            *column = b2 * *column + (1.0 - b2) * mean;
        }
        let mean = wr.iter().sum::<f64>() / height as f64;
        let update: Vec<f64> =
            (0..g.len()).map(|i| g[i] / (wr[i / width] / mean).sqrt() / wc[i % width].sqrt()).collect();
        let rms = (update.iter().map(|u| u * u).sum::<f64>() / update.len() as f64).sqrt();
        for (p, u) in wp.iter_mut().zip(&update) {
            *p = *p * (1.0 - 0.1 * 1e-2) - 1e-2 * u / rms.max(1.0);
        }
    }
    close("parameter", &p, &wp);
    close("rows", &row, &wr);
    close("columns", &column, &wc);
}

#[test]
fn adafactor_of_a_vector_follows_transformers() {
    let n = 40_001;
    let mut numbers = Numbers::new(15);
    let (mut p, mut v) = (numbers.vec(n), vec![0.0; n]);
    let (mut wp, mut wv) = (wide(&p), vec![0.0; n]);
    for step in 1..=4u64 {
        let g = numbers.vec(n);
        let hyper = Adafactor { lr: 1e-2, weight_decay: 0.1, step };
        optimizer::adafactor_vector(&mut p, &g, &mut v, 0.5, &hyper);
        let b2 = 1.0 - (step as f64).powf(-0.8);
        let g: Vec<f64> = g.iter().map(|&g| 0.5 * f64::from(g)).collect();
        for (v, g) in wv.iter_mut().zip(&g) {
            *v = b2 * *v + (1.0 - b2) * (g * g + 1e-30);
        }
        let update: Vec<f64> = g.iter().zip(&wv).map(|(g, v)| g / v.sqrt()).collect();
        let rms = (update.iter().map(|u| u * u).sum::<f64>() / n as f64).sqrt();
        for (p, u) in wp.iter_mut().zip(&update) {
            *p = *p * (1.0 - 0.1 * 1e-2) - 1e-2 * u / rms.max(1.0);
        }
    }
    close("parameter", &p, &wp);
    close("second moment", &v, &wv);
}

/// `a b`, both row-major.
fn product(a: &[f64], b: &[f64], (rows, inner, columns): (usize, usize, usize)) -> Vec<f64> {
    let at = |r: usize, c: usize| (0..inner).map(|k| a[r * inner + k] * b[k * columns + c]).sum();
    (0..rows * columns).map(|i| at(i / columns, i % columns)).collect()
}

fn transposed(a: &[f64], rows: usize, columns: usize) -> Vec<f64> {
    (0..a.len()).map(|i| a[(i % rows) * columns + i / rows]).collect()
}

/// The Newton-Schulz iteration as PyTorch writes it: on the wide orientation.
fn orthogonal(x: &[f64], rows: usize, columns: usize) -> Vec<f64> {
    if rows > columns {
        return transposed(&orthogonal(&transposed(x, rows, columns), columns, rows), columns, rows);
    }
    let norm = x.iter().map(|x| x * x).sum::<f64>().sqrt().max(1e-7);
    let mut x: Vec<f64> = x.iter().map(|x| x / norm).collect();
    for _ in 0..5 {
        let gram = product(&x, &transposed(&x, rows, columns), (rows, columns, rows));
        let square = product(&gram, &gram, (rows, rows, rows));
        let polynomial: Vec<f64> = gram.iter().zip(&square).map(|(g, s)| -4.7750 * g + 2.0315 * s).collect();
        let moved = product(&polynomial, &x, (rows, rows, columns));
        x = x.iter().zip(&moved).map(|(x, moved)| 3.4445 * x + moved).collect();
    }
    x
}

fn muon(rows: usize, columns: usize, kind: Momentum, adjust: AdjustRate, ratio: f64) {
    let n = rows * columns;
    let mut numbers = Numbers::new(16);
    let (mut p, mut m, mut scratch) = (numbers.vec(n), vec![0.0; n], Default::default());
    let (mut wp, mut wm) = (wide(&p), vec![0.0; n]);
    // The error of an update in units of its largest element: a rounding error of the sums of a product, amplified in
    // each of five iterations by the derivative of the polynomial, whose largest value is that at 0.
    let bound = 3.4445f64.powi(5) * (rows.max(columns) as f64).sqrt() * 2f64.powi(-24);
    for _ in 0..3 {
        let g = numbers.vec(n);
        let hyper = Muon { lr: 1e-2, weight_decay: 0.1, momentum: 0.95, kind, steps: 5, adjust };
        // The same step from a parameter of zero shows the update alone.
        let (mut alone, mut m_alone) = (vec![0.0; n], m.clone());
        optimizer::muon(&mut alone, &g, &mut m_alone, ((rows, columns), 0.5), &hyper, &mut scratch);
        optimizer::muon(&mut p, &g, &mut m, ((rows, columns), 0.5), &hyper, &mut scratch);
        let g: Vec<f64> = g.iter().map(|&g| 0.5 * f64::from(g)).collect();
        for (m, g) in wm.iter_mut().zip(&g) {
            *m = 0.95 * *m + 0.05 * g;
        }
        let ahead: Vec<f64> = g.iter().zip(&wm).map(|(g, m)| 0.05 * g + 0.95 * m).collect();
        let update = orthogonal(if kind == Momentum::Plain { &wm } else { &ahead }, rows, columns);
        let moved: Vec<f64> = update.iter().map(|u| -1e-2 * ratio * u).collect();
        close_within("update", &alone, &moved, bound);
        for (p, moved) in wp.iter_mut().zip(&moved) {
            *p = *p * (1.0 - 1e-2 * 0.1) + moved;
        }
    }
    close("parameter", &p, &wp);
    close("momentum", &m, &wm);
}

#[test]
fn muon_follows_torch_in_either_orientation() {
    muon(24, 40, Momentum::Nesterov, AdjustRate::Original, 1.0);
    muon(40, 24, Momentum::Nesterov, AdjustRate::Original, (40.0f64 / 24.0).sqrt());
    muon(40, 24, Momentum::Plain, AdjustRate::MatchRmsAdamW, 0.2 * 40.0f64.sqrt());
    muon(1, 9, Momentum::Nesterov, AdjustRate::MatchRmsAdamW, 0.2 * 3.0);
}

#[test]
fn muon_without_gradient_only_decays() {
    let (mut p, mut m) = (vec![1.0; 12], vec![0.0; 12]);
    let hyper = Muon {
        lr: 1e-2,
        weight_decay: 0.1,
        momentum: 0.95,
        kind: Momentum::Nesterov,
        steps: 5,
        adjust: AdjustRate::Original,
    };
    optimizer::muon(&mut p, &[0.0; 12], &mut m, ((3, 4), 1.0), &hyper, &mut Default::default());
    close("parameter", &p, &[0.999; 12]);
}

#[test]
fn dynamic_map_quantizes_to_the_nearest_value() {
    let mut numbers = Numbers::new(17);
    for sign in [Sign::Signed, Sign::Unsigned] {
        let map = DynamicMap::of(sign);
        let values = map.values();
        assert!(values.is_sorted() && values.contains(&0.0) && values[255] == 1.0);
        let lowest = if sign == Sign::Signed { -1.0 } else { 0.0 };
        let mut tried = vec![0.0, -0.0, 1.0, f32::MIN_POSITIVE, 1e-40];
        // Numbers of every magnitude, and the neighbourhood of every midpoint.
        tried.extend((0..20_000).map(|_| numbers.next() * 10f32.powf(4.0 * (numbers.next() - 1.0))));
        for pair in values.windows(2) {
            let middle = 0.5 * (pair[0] + pair[1]);
            tried.extend([middle * 0.999_999, middle, middle * 1.000_001, pair[0]]);
        }
        for x in tried.into_iter().filter(|&x| x >= lowest) {
            let distance = |code: usize| (f64::from(values[code]) - f64::from(x)).abs();
            let best = (0..256).min_by(|a, b| distance(*a).total_cmp(&distance(*b))).unwrap();
            // The second number, 1, makes the scale of the block 1.
            let mut quants = [0; 2];
            map.quantize(&[x, 1.0], &mut quants);
            let found = usize::from(quants[0]);
            // The quant, a number up to 256, is computed in f32 and so has an error of up to 2^-16. That far from a midpoint
            // the distances differ by twice this fraction of the gap, and both neighbours count as nearest.
            assert!(found.abs_diff(best) <= 1, "{sign:?} {x}: {found}, not {best}");
            let gap = f64::from((values[found] - values[best]).abs());
            assert!(
                distance(found) <= distance(best) + gap * 2f64.powi(-15),
                "{sign:?} {x}: {found}, not {best}"
            );
        }
    }
}

#[test]
fn eight_bit_adamw_follows_f64_over_the_same_quants() {
    let n = 40_001usize; // more than one chunk; the last block has 65 elements
    let blocks = n.div_ceil(DYNAMIC_MAP_BLOCK);
    let mut numbers = Numbers::new(18);
    let mut p = numbers.vec(n);
    let (mut first, mut second) = (vec![0; n], vec![0; n]);
    let (mut first_max, mut second_max) = (vec![0.0; blocks], vec![0.0; blocks]);
    for step in 1..=4u64 {
        let g = numbers.vec(n);
        let moment = |sign, quants: &[u8], largest: &[f32]| -> Vec<f64> {
            let values = DynamicMap::of(sign).values();
            quants
                .iter()
                .enumerate()
                .map(|(i, &quant)| f64::from(values[quant as usize] * largest[i / DYNAMIC_MAP_BLOCK]))
                .collect()
        };
        let mut wp = wide(&p);
        let mut wm = moment(Sign::Signed, &first, &first_max);
        let mut wv = moment(Sign::Unsigned, &second, &second_max);
        for i in 0..n {
            let g = 0.5 * f64::from(g[i]);
            wm[i] = 0.9 * wm[i] + 0.1 * g;
            wv[i] = 0.999 * wv[i] + 0.001 * g * g;
            let (mh, vh) =
                (wm[i] / (1.0 - 0.9f64.powi(step as i32)), wv[i] / (1.0 - 0.999f64.powi(step as i32)));
            wp[i] = wp[i] * (1.0 - 1e-2 * 0.1) - 1e-2 * mh / (vh.sqrt() + 1e-8);
        }
        let hyper = AdamW { lr: 1e-2, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.1, step };
        let moments = Moments8bit {
            first: &mut first,
            second: &mut second,
            first_max: &mut first_max,
            second_max: &mut second_max,
        };
        optimizer::adamw_8bit(Parameter::f32(&mut p, &g), moments, 0.5, &hyper);
        close("parameter", &p, &wp);
        // A stored moment is within half of the map's widest gap: 0.9 / 64 or 0.9 / 128 of its block's largest magnitude.
        let (stored_m, stored_v) =
            (moment(Sign::Signed, &first, &first_max), moment(Sign::Unsigned, &second, &second_max));
        for i in 0..n {
            let (m_gap, v_gap) =
                (first_max[i / DYNAMIC_MAP_BLOCK] / 64.0, second_max[i / DYNAMIC_MAP_BLOCK] / 128.0);
            assert!((stored_m[i] - wm[i]).abs() <= 0.5 * f64::from(m_gap), "first moment {i}");
            assert!((stored_v[i] - wv[i]).abs() <= 0.5 * f64::from(v_gap), "second moment {i}");
        }
    }
}

#[test]
fn every_quant_widens_to_its_value() {
    // The gradient is zero, so the moment with quants 0 to 255 is only widened and decayed; the other one is constant.
    let run = |mut first: Vec<u8>, mut second: Vec<u8>| {
        let (mut p, mut first_max, mut second_max) = (vec![0.0; 256], [1.0], [1.0]);
        let moments = Moments8bit {
            first: &mut first,
            second: &mut second,
            first_max: &mut first_max,
            second_max: &mut second_max,
        };
        let hyper = AdamW { lr: 1.0, beta1: 0.5, beta2: 0.5, eps: 0.0, weight_decay: 0.0, step: 1 };
        optimizer::adamw_8bit(Parameter::f32(&mut p, &[0.0; 256]), moments, 1.0, &hyper);
        p
    };
    let quants: Vec<u8> = (0..=255).collect();
    // beta1 halves the value, and the bias correction doubles it; the second moment is 1.
    let p = run(quants.clone(), vec![255; 256]);
    for (found, value) in p.iter().zip(DynamicMap::of(Sign::Signed).values()) {
        assert!((found + value).abs() <= value.abs() * 2f32.powi(-19), "{found} for {value}");
    }
    let p = run(vec![255; 256], quants);
    for (found, value) in p.iter().zip(DynamicMap::of(Sign::Unsigned).values()).skip(1) {
        let root = 1.0 / value.sqrt();
        assert!((found + root).abs() <= root * 2f32.powi(-19), "{found} for {root}");
    }
}

#[test]
fn bf16_parameters_are_updated_in_f32_and_rounded_stochastically() {
    let n = 70_001usize; // three chunks, odd
    let mut numbers = Numbers::new(19);
    let p: Vec<bf16> = numbers.vec(n).into_iter().map(bf16::from_f32).collect();
    let g: Vec<bf16> = numbers.vec(n).into_iter().map(bf16::from_f32).collect();
    let widen = |values: &[bf16]| values.iter().map(|x| x.to_f32()).collect::<Vec<f32>>();
    check_bf16(&p, &g, |parameter| {
        let hyper = AdamW { lr: 1e-2, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.1, step: 1 };
        optimizer::adamw(parameter, &mut vec![0.1; n], &mut vec![0.2; n], 0.5, &hyper);
    });
    check_bf16(&p, &g, |parameter| {
        let (lr, beta1, beta2, weight_decay, step) = (1e-2, 0.9, 0.999, 0.1, 1);
        let blocks = n.div_ceil(DYNAMIC_MAP_BLOCK);
        let moments = Moments8bit {
            first: &mut vec![140; n],
            second: &mut vec![200; n],
            first_max: &mut vec![0.1; blocks],
            second_max: &mut vec![0.2; blocks],
        };
        optimizer::adamw_8bit(
            parameter,
            moments,
            0.5,
            &AdamW { lr, beta1, beta2, eps: 1e-8, weight_decay, step },
        );
    });
    check_bf16(&p, &g, |parameter| {
        let hyper = Lion { lr: 1e-2, beta1: 0.9, beta2: 0.99, weight_decay: 0.1 };
        optimizer::lion(parameter, &mut vec![0.1; n], 0.5, &hyper);
    });
    for momentum in [false, true] {
        check_bf16(&p, &g, |parameter| {
            let hyper = Sgd { lr: 0.1, momentum: 0.9, weight_decay: 0.01 };
            let mut buffer = vec![0.1; n];
            optimizer::sgd(parameter, momentum.then_some(&mut buffer[..]), 2.0, &hyper);
        });
    }
    // In one piece, for updates that need the whole parameter.
    let mut narrow = p.clone();
    let mut wide = Default::default();
    let parameter = Parameter { values: ValuesMut::Bf16(&mut narrow), gradient: View::Bf16(&g), seed: 5 };
    parameter.in_f32(&mut wide, |values, gradient| {
        assert!(gradient == widen(&g));
        values.iter_mut().for_each(|x| *x *= 1.001);
    });
    let expected: Vec<f32> = widen(&p).into_iter().map(|x| x * 1.001).collect();
    let mut rounded = vec![bf16::ZERO; n];
    optimizer::round_stochastically(&expected, &mut rounded, 5, 0);
    assert!(narrow == rounded);
}

/// The update of a bf16 parameter is that of the same numbers in f32, rounded.
#[track_caller]
fn check_bf16(p: &[bf16], g: &[bf16], mut update: impl FnMut(Parameter<'_>)) {
    let widen = |values: &[bf16]| values.iter().map(|x| x.to_f32()).collect::<Vec<f32>>();
    let (mut narrow, mut wide, gradient) = (p.to_vec(), widen(p), widen(g));
    update(Parameter { values: ValuesMut::Bf16(&mut narrow), gradient: View::Bf16(g), seed: 5 });
    update(Parameter::f32(&mut wide, &gradient));
    let mut rounded = vec![bf16::ZERO; p.len()];
    optimizer::round_stochastically(&wide, &mut rounded, 5, 0);
    assert!(narrow == rounded && narrow != p);
}

#[test]
fn stochastic_rounding_is_unbiased_and_repeatable() {
    let (low, high) = (1.0f32, 1.0078125f32);
    let n = 1 << 16;
    for share in [0.0f32, 0.1, 0.5, 0.9] {
        let from = vec![low + share * (high - low); n];
        let mut to = vec![bf16::ZERO; n];
        optimizer::round_stochastically(&from, &mut to, 3, 7);
        assert!(to.iter().all(|x| [low, high].contains(&x.to_f32())), "{share}");
        let up = to.iter().filter(|x| x.to_f32() == high).count() as f64 / n as f64;
        // Five standard deviations of the mean of 2^16 coin tosses are at most 5 * 0.5 / 256.
        assert!((up - f64::from(share)).abs() < 0.01, "{share}: {up}");
        let mut again = vec![bf16::ZERO; n - 1];
        optimizer::round_stochastically(&from[1..], &mut again, 3, 8);
        assert!(again == to[1..], "the random bits depend on the index");
        optimizer::round_stochastically(&from, &mut to, 4, 7);
        assert!(share == 0.0 || again != to[1..], "another seed");
    }
    let odd = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0, -1.5];
    let mut to = [bf16::ZERO; 6];
    optimizer::round_stochastically(&odd, &mut to, 1, 0);
    assert!(to[0].is_nan() && to.iter().zip(odd).skip(1).all(|(to, from)| to.to_f32() == from), "{to:?}");
}
