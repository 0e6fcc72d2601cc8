//! Nanoseconds of an element's update, two threads, for each optimizer state and dtype of the parameter.
//!
//! `cargo run --release -p parlor-kernels --example updates`
#![allow(clippy::print_stdout)]

use std::time::Instant;

use half::bf16;
use parlor_kernels::optimizer::{AdamW, Moments8bit, Parameter, adamw, adamw_8bit};
use parlor_kernels::parallel::threads;
use parlor_kernels::quant::DYNAMIC_MAP_BLOCK;
use parlor_kernels::{ValuesMut, View};

const N: usize = 1 << 26;

fn main() {
    threads::initialise(2);
    let number = |i: usize| (i * 7919 % 100_003) as f32 / 50_000.0 - 1.0;
    let mut wide: Vec<f32> = (0..N).map(number).collect();
    let gradient: Vec<f32> = (0..N).map(|i| number(i + 17) * 1e-3).collect();
    let mut narrow: Vec<bf16> = wide.iter().map(|x| bf16::from_f32(*x)).collect();
    let gradient_narrow: Vec<bf16> = gradient.iter().map(|x| bf16::from_f32(*x)).collect();
    let (mut m, mut v) = (vec![0.0; N], vec![0.0; N]);
    let (mut m8, mut v8) = (vec![0u8; N], vec![0u8; N]);
    let (mut m_max, mut v_max) = (vec![0.0; N / DYNAMIC_MAP_BLOCK], vec![0.0; N / DYNAMIC_MAP_BLOCK]);
    for step in 1..=5 {
        let hyper = AdamW { lr: 1e-4, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.1, step };
        for is_narrow in [false, true] {
            for is_8bit in [false, true] {
                let (values, gradient) = if is_narrow {
                    (ValuesMut::Bf16(&mut narrow), View::Bf16(&gradient_narrow))
                } else {
                    (ValuesMut::F32(&mut wide), View::F32(&gradient))
                };
                let parameter = Parameter { values, gradient, seed: step };
                let start = Instant::now();
                if is_8bit {
                    let (first, second) = (&mut m8[..], &mut v8[..]);
                    let (first_max, second_max) = (&mut m_max[..], &mut v_max[..]);
                    let moments = Moments8bit { first, second, first_max, second_max };
                    adamw_8bit(parameter, moments, 1.0, &hyper);
                } else {
                    adamw(parameter, &mut m, &mut v, 1.0, &hyper);
                }
                let nanoseconds = start.elapsed().as_secs_f64() * 1e9 / N as f64;
                let dtype = if is_narrow { "bf16" } else { "f32" };
                let state = if is_8bit { "8-bit" } else { "f32" };
                println!("{dtype} parameter, {state} moments: {nanoseconds:.3} ns");
            }
        }
    }
}
