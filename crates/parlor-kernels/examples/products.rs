//! Speed of the matrix products: GFLOP/s of the forward product, the input gradient and the weight gradient of
//! linear layers, best and median of many runs. Shapes `ROWSxINPUTSxOUTPUTS` may be given as arguments.
//!
//! `cargo run --release -p parlor-kernels --example products [threads=2] [2048x384x1024 ...]`
#![allow(clippy::print_stdout, clippy::expect_used)]

use std::time::Instant;

use parlor_kernels::cpu::roofline;
use parlor_kernels::linear::{self, Shape};
use parlor_kernels::parallel::threads;
use parlor_kernels::{Arithmetic, View, Write};

fn main() {
    let mut shapes = Vec::new();
    for text in std::env::args().skip(1) {
        match text.strip_prefix("threads=") {
            Some(count) => _ = threads::initialise(count.parse().expect("threads=COUNT")),
            None => shapes.push(text.split('x').map(|n| n.parse().expect("ROWSxINPUTSxOUTPUTS")).collect()),
        }
    }
    if shapes.is_empty() {
        let usual =
            [[2048, 384, 1024], [2048, 384, 8192], [512, 896, 4864], [512, 896, 896], [2048, 384, 128]];
        shapes = usual.iter().map(|shape| shape.to_vec()).collect::<Vec<Vec<usize>>>();
    }
    println!("{} threads; GFLOP/s, best/median", threads::count());
    for shape in shapes {
        for arithmetic in [Arithmetic::F32, Arithmetic::Bf16] {
            measure(Shape { rows: shape[0], inputs: shape[1], outputs: shape[2], arithmetic });
        }
    }
}

fn measure(shape: Shape) {
    let Shape { rows, inputs, outputs, arithmetic } = shape;
    let numbers = |n: usize| (0..n).map(|i| (i * 7919 % 1000) as f32 / 500.0 - 1.0).collect::<Vec<f32>>();
    let (x, w, dy) = (numbers(rows * inputs), numbers(inputs * outputs), numbers(rows * outputs));
    let (mut y, mut dx, mut dw) = (dy.clone(), x.clone(), w.clone());
    let operations = 2.0 * (rows * inputs * outputs) as f64;
    let figures = [
        best(operations, || linear::forward(&x, View::F32(&w), None, &mut y, Write::Replace, shape)),
        best(operations, || linear::backward_input(&dy, View::F32(&w), &mut dx, Write::Replace, shape)),
        best(operations, || linear::backward_weight(&x, &dy, &mut dw, shape)),
    ];
    println!(
        "{rows}x{inputs}x{outputs} {arithmetic:?}: forward {}, input gradient {}, weight gradient {}",
        figures[0], figures[1], figures[2]
    );
}

fn best(operations: f64, mut run: impl FnMut()) -> String {
    let mut seconds: Vec<f64> = (0..100)
        .map(|_| {
            let (start, began) = (Instant::now(), roofline::thread_cpu_seconds());
            run();
            // Of one thread the processor's time, which other work does not change.
            if threads::count() == 1 {
                roofline::thread_cpu_seconds() - began
            } else {
                start.elapsed().as_secs_f64()
            }
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    format!("{:.0}/{:.0}", operations / seconds[0] / 1e9, operations / seconds[seconds.len() / 2] / 1e9)
}
