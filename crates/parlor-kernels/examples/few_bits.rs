//! Speed of products with packed weights, in seconds of processor time of one thread: steady on a machine that other work
//! shares. For few rows the bytes of weights read, for many the operations, per second.
//!
//! `cargo run --release -p parlor-kernels --example few_bits [rows ...]`
#![allow(clippy::print_stdout, clippy::expect_used)]

use parlor_kernels::cpu::roofline;
use parlor_kernels::matmul::KernelSet;
use parlor_kernels::matmul::prepacked::{PrepackedOutput, bf16, int8};
use parlor_kernels::parallel::threads;
use parlor_kernels::{BlockFormat, DType, Tensor, Write};

fn main() {
    threads::initialise(1);
    let kernels = KernelSet::best();
    let rows: Vec<usize> = std::env::args().skip(1).map(|n| n.parse().expect("a number of rows")).collect();
    let limits = roofline::measure(1 << 28).expect("memory");
    println!(
        "one thread: reads {:.1} GB/s, int8 {:.0} GOP/s",
        limits.read / 1e9,
        limits.int8.unwrap_or(0.0) / 1e9
    );
    let blocks = [BlockFormat::Q8_0, BlockFormat::Q4_0, BlockFormat::Nf4].map(DType::Block);
    for format in std::iter::once(DType::Bf16).chain(blocks) {
        for (outputs, columns) in [(896, 896), (4864, 896), (896, 4864)] {
            let numbers =
                |n: usize| (0..n).map(|i| (i * 7919 % 1000) as f32 / 500.0 - 1.0).collect::<Vec<f32>>();
            let weight = Tensor::from_f32(&[outputs, columns], numbers(outputs * columns)).expect("a matrix");
            let weight = weight.to_dtype(format);
            let one = weight.view().prepack(columns).expect("packed");
            // As many as are larger than the caches together.
            let count = 200_000_000usize.div_ceil(one.bytes());
            let all: Vec<_> = (0..count).map(|_| weight.view().prepack(columns).expect("packed")).collect();
            for &rows in if rows.is_empty() { &[1, 4, 8, 512][..] } else { &rows } {
                let x = numbers(rows * columns);
                let inputs = int8::QuantizedActivations::quantize(kernels.int8(), &x, columns);
                let mut y = vec![0.0; rows * outputs];
                let used = if rows > 16 { &all[..all.len().min(8)] } else { &all[..] };
                let mut times: Vec<f64> = (0..7)
                    .map(|_| {
                        let start = roofline::thread_cpu_seconds();
                        for weight in used {
                            let output =
                                PrepackedOutput { weight, y: &mut y, write: Write::Replace, bias: None };
                            match format {
                                DType::Bf16 => bf16::forward(kernels.bf16(), &x, &mut [output]),
                                _ => int8::forward(kernels.int8(), &inputs, &mut [output]),
                            }
                        }
                        roofline::thread_cpu_seconds() - start
                    })
                    .collect();
                times.sort_by(f64::total_cmp);
                let seconds = times[times.len() / 2];
                let bytes = (used.len() * one.bytes()) as f64;
                let operations = (used.len() * 2 * rows * outputs * columns) as f64;
                println!(
                    "{} {outputs}x{columns} {rows:>4} rows: {:6.1} GB/s {:6.1} GOP/s",
                    format.name(),
                    bytes / seconds / 1e9,
                    operations / seconds / 1e9
                );
            }
        }
    }
}
