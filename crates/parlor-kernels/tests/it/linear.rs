//! Linear layers in every dtype and number of rows.

use half::{bf16, f16};
use parlor_kernels::linear::{self, Layer, LowRankUpdate, Shape};
use parlor_kernels::{Arithmetic, BlockFormat, Blocks, View, Write};

use crate::{Numbers, close, close_within, wide};

fn reference(x: &[f64], w: &[f64], bias: &[f64], shape: Shape) -> Vec<f64> {
    let Shape { rows, inputs, outputs, .. } = shape;
    let mut y = vec![0.0; rows * outputs];
    for r in 0..rows {
        for o in 0..outputs {
            y[r * outputs + o] =
                bias[o] + (0..inputs).map(|i| x[r * inputs + i] * w[o * inputs + i]).sum::<f64>();
        }
    }
    y
}

fn check(rows: usize, inputs: usize, outputs: usize) {
    let shape = Shape { rows, inputs, outputs, arithmetic: Arithmetic::F32 };
    let mut numbers = Numbers::new((rows * 31 + inputs * 7 + outputs) as u64);
    let (x, bias) = (numbers.vec(rows * inputs), numbers.vec(outputs));
    let w = numbers.vec(outputs * inputs);
    let w_bf16: Vec<bf16> = w.iter().map(|&w| bf16::from_f32(w)).collect();
    let w_f16: Vec<f16> = w.iter().map(|&w| f16::from_f32(w)).collect();
    let widened = [
        (View::F32(&w), wide(&w)),
        (View::Bf16(&w_bf16), w_bf16.iter().map(|w| w.to_f64()).collect::<Vec<_>>()),
        (View::F16(&w_f16), w_f16.iter().map(|w| w.to_f64()).collect()),
    ];
    let dy = numbers.vec(rows * outputs);
    for (view, exact) in &widened {
        let name = format!(
            "{shape:?} {}",
            match view {
                View::F32(_) => "f32",
                View::Bf16(_) => "bf16",
                View::F16(_) => "f16",
                View::Block(_) | View::Packed(_) => "blocks",
            }
        );
        let want = reference(&wide(&x), exact, &wide(&bias), shape);
        let mut y = vec![f32::NAN; rows * outputs];
        linear::forward(&x, *view, Some(&bias), &mut y, Write::Replace, shape);
        close(&format!("forward {name}"), &y, &want);

        let start = numbers.vec(rows * outputs);
        let mut y = start.clone();
        linear::forward(&x, *view, None, &mut y, Write::Accumulate, shape);
        let zero = vec![0.0; outputs];
        let mut want = reference(&wide(&x), exact, &zero, shape);
        want.iter_mut().zip(&start).for_each(|(want, &start)| *want += f64::from(start));
        close(&format!("accumulate {name}"), &y, &want);

        let mut want = vec![0.0; rows * inputs];
        for r in 0..rows {
            for o in 0..outputs {
                for i in 0..inputs {
                    want[r * inputs + i] += f64::from(dy[r * outputs + o]) * exact[o * inputs + i];
                }
            }
        }
        let mut dx = vec![f32::NAN; rows * inputs];
        linear::backward_input(&dy, *view, &mut dx, Write::Replace, shape);
        close(&format!("dx {name}"), &dx, &want);
        linear::backward_input(&dy, *view, &mut dx, Write::Accumulate, shape);
        want.iter_mut().for_each(|x| *x *= 2.0);
        close(&format!("dx twice {name}"), &dx, &want);
    }
    let mut want = vec![0.0; outputs * inputs];
    for r in 0..rows {
        for o in 0..outputs {
            for i in 0..inputs {
                want[o * inputs + i] += f64::from(dy[r * outputs + o]) * f64::from(x[r * inputs + i]);
            }
        }
    }
    let mut dw = vec![0.0; outputs * inputs];
    linear::backward_weight(&x, &dy, &mut dw, shape);
    close("dw", &dw, &want);
    let mut db = vec![0.0; outputs];
    linear::backward_bias(&dy, &mut db);
    let want: Vec<f64> =
        (0..outputs).map(|o| (0..rows).map(|r| f64::from(dy[r * outputs + o])).sum()).collect();
    close("db", &db, &want);
}

#[test]
fn products_match_the_f64_reference() {
    for (rows, inputs, outputs) in [
        (1, 1, 1),
        (1, 33, 7),
        (1, 200, 9),
        (2, 70, 11),
        (3, 64, 50),
        (4, 17, 600),
        (5, 17, 3),
        (6, 39, 5),
        (7, 48, 300),
        (8, 90, 33),
        (11, 65, 40),
        (16, 31, 8),
        (17, 31, 8),
        (65, 31, 29),
        (0, 8, 8),
    ] {
        check(rows, inputs, outputs);
    }
}

#[test]
fn nan_and_infinity_are_not_hidden() {
    for (rows, arithmetic) in [(1, Arithmetic::F32), (9, Arithmetic::F32), (9, Arithmetic::Bf16)] {
        let shape = Shape { rows, inputs: 20, outputs: 5, arithmetic };
        let mut x = vec![1.0; rows * 20];
        let w = vec![0.5; 100];
        x[3] = f32::NAN;
        let mut y = vec![0.0; rows * 5];
        linear::forward(&x, View::F32(&w), None, &mut y, Write::Replace, shape);
        assert!(y[..5].iter().all(|y| y.is_nan()), "{y:?}");
        x[3] = f32::INFINITY;
        linear::forward(&x, View::F32(&w), None, &mut y, Write::Replace, shape);
        assert!(y[..5].iter().all(|&y| y == f32::INFINITY), "{y:?}");
    }
}

/// A low-rank update is added to its weight's product by every method: f32 gemm, gemv, bf16, prepacked. Layers have one or not.
#[test]
fn low_rank_updates_are_added_by_every_method() {
    let (inputs, outputs, rank) = (64, 40, 5);
    for rows in [1, 3, 33] {
        let mut numbers = Numbers::new(rows as u64);
        let x = numbers.vec(rows * inputs);
        let (h, b, a) = (numbers.vec(rows * rank), numbers.vec(outputs * rank), numbers.vec(rank * inputs));
        let (weight, dy) = (numbers.vec(outputs * inputs), numbers.vec(rows * outputs));
        let bf16: Vec<bf16> = weight.iter().map(|&w| bf16::from_f32(w)).collect();
        let blocks = Blocks::quantize(&weight, BlockFormat::Q8_0);
        let packed = View::Block(blocks.view()).prepack(inputs).unwrap();
        let update = |factor| Some(LowRankUpdate { h: View::F32(&h), factor, rank });
        for arithmetic in [Arithmetic::F32, Arithmetic::Bf16] {
            let shape = Shape { rows, inputs, outputs, arithmetic };
            // Five products and what they are added to, each sum rounded, on both sides; magnitudes are twice the largest.
            let assert_close = |got: &[f32], want: &[f32]| {
                close_within(&format!("{shape:?}"), got, &wide(want), 24.0 * 2f64.powi(-24));
            };
            for weight in [View::F32(&weight), View::Bf16(&bf16), View::Packed(packed.view())] {
                let mut want = vec![0.0; rows * outputs];
                linear::forward(&x, weight, None, &mut want, Write::Replace, shape);
                let plain = want.clone();
                linear::forward(
                    &h,
                    View::F32(&b),
                    None,
                    &mut want,
                    Write::Accumulate,
                    Shape { inputs: rank, ..shape },
                );
                let mut y = [vec![f32::NAN; rows * outputs], vec![f32::NAN; rows * outputs]];
                let [first, second] = &mut y;
                let write = Write::Replace;
                let layer = |y, low_rank| Layer { weight, bias: None, y, write, addend: None, low_rank };
                let mut layers = [layer(first, update(View::F32(&b))), layer(second, None)];
                linear::forward_all(View::F32(&x), Shape { outputs: 2 * outputs, ..shape }, &mut layers);
                assert_close(&y[0], &want);
                assert_eq!(y[1], plain, "{rows} {arithmetic:?} {weight:?}");

                let mut want = vec![1.0; rows * inputs];
                linear::backward_input(&dy, weight, &mut want, Write::Accumulate, shape);
                linear::backward_input(
                    &h,
                    View::F32(&a),
                    &mut want,
                    Write::Accumulate,
                    Shape { outputs: rank, ..shape },
                );
                let mut dx = vec![1.0; rows * inputs];
                let both = (weight, update(View::F32(&a)));
                linear::backward_input_low_rank(View::F32(&dy), both, &mut dx, Write::Accumulate, shape);
                assert_close(&dx, &want);
            }
        }
    }
}
