//! Activations, rotary embedding, and embedding rows.

use half::bf16;
use parlor_kernels::activation::{self, Activation};
use parlor_kernels::rope::{self, Angles, Direction};
use parlor_kernels::{View, Write, embedding};

use crate::{Numbers, close, differences, inner, wide};

fn silu(x: f64) -> f64 {
    x / (1.0 + (-x).exp())
}

fn gelu(x: f64) -> f64 {
    0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
}

#[test]
fn activations_match_over_their_whole_range() {
    // Wide enough for both tails; an odd length.
    let x: Vec<f32> = (-2001..2000).map(|i| i as f32 * 0.05).collect();
    let mut numbers = Numbers::new(5);
    let (up, dy) = (numbers.vec(x.len()), numbers.vec(x.len()));
    for (kind, f) in [(Activation::Silu, silu as fn(f64) -> f64), (Activation::GeluTanh, gelu)] {
        let mut y = vec![0.0; x.len()];
        activation::forward(kind, &x, &mut y);
        for (&x, &y) in x.iter().zip(&y) {
            let want = f(f64::from(x));
            // The exponential is within 2 ulp (2.4e-7), and four roundings follow (2.4e-7). For GELU the error of the
            // exponent u adds u sech^2(u) 2^-22, which is below 1.1e-7. SiLU's tail is x e^x, so its relative error is
            // that of the exponential while e^-x is finite.
            let scale = if kind == Activation::Silu && x > -88.0 { 0.0 } else { 1.0 };
            assert!(
                (f64::from(y) - want).abs() <= 1e-6 * want.abs().max(scale),
                "{kind:?}({x}) = {y}, want {want}"
            );
        }
        let mut dx = x.clone();
        activation::backward(kind, &mut dx, &dy);
        let want: Vec<f64> = x
            .iter()
            .zip(&dy)
            .map(|(&x, &dy)| differences(&[f64::from(x)], |x| f(x[0]))[0] * f64::from(dy))
            .collect();
        close("plain backward", &dx, &want);

        activation::gated_forward(kind, &x, &up, &mut y);
        let want: Vec<f64> = x.iter().zip(&up).map(|(&x, &u)| f(f64::from(x)) * f64::from(u)).collect();
        close("gated", &y, &want);
        let (mut gate, mut d_up) = (x.clone(), up.clone());
        activation::gated_backward(kind, &mut gate, &mut d_up, &dy);
        let want: Vec<f64> = (0..x.len()).map(|i| f64::from(dy[i]) * f(f64::from(x[i]))).collect();
        close("gated d_up", &d_up, &want);
        let want: Vec<f64> = (0..x.len())
            .map(|i| {
                let derivative = differences(&[f64::from(x[i])], |x| f(x[0]))[0];
                f64::from(dy[i]) * f64::from(up[i]) * derivative
            })
            .collect();
        close("gated d_gate", &gate, &want);
    }
}

#[test]
fn nan_passes_through_activations() {
    let mut y = [0.0f32; 2];
    activation::forward(Activation::Silu, &[f32::NAN, f32::INFINITY][..], &mut y[..]);
    assert!(y[0].is_nan() && y[1] == f32::INFINITY, "{y:?}");
}

#[test]
fn rotation_turns_pairs_and_back() {
    let (heads, half) = (3, 5);
    let frequencies: Vec<f32> = (0..half).map(|i| 0.7f32.powi(i)).collect();
    let positions = [0u32, 3, 900];
    let mut angles = Angles::default();
    angles.fill(&positions, &frequencies);
    let x = Numbers::new(9).vec(positions.len() * heads * 10);
    let mut y = x.clone();
    rope::apply(&mut y, heads, &angles, Direction::Forward);
    let mut want = Vec::new();
    for (row, &position) in positions.iter().enumerate() {
        for head in 0..heads {
            let at = (row * heads + head) * 10;
            for i in 0..10 {
                let angle = f64::from(position as f32 * frequencies[i % 5]);
                let (a, b) = (f64::from(x[at + i % 5]), f64::from(x[at + i % 5 + 5]));
                want.push(if i < 5 {
                    a * angle.cos() - b * angle.sin()
                } else {
                    b * angle.cos() + a * angle.sin()
                });
            }
        }
    }
    close("rotated", &y, &want);
    rope::apply(&mut y, heads, &angles, Direction::Backward);
    close("and back", &y, &wide(&x));
}

#[test]
fn embedding_gathers_and_scatters() {
    let table: Vec<bf16> = Numbers::new(2).vec(6 * 4).iter().map(|&x| bf16::from_f32(x)).collect();
    let (ids, dy) = ([5u32, 0, 5], Numbers::new(3).vec(12));
    let gather =
        |table: &[f64]| ids.iter().flat_map(|&id| table[id as usize * 4..][..4].to_vec()).collect::<Vec<_>>();
    let exact: Vec<f64> = table.iter().map(|x| x.to_f64()).collect();
    let mut y = vec![1.0; 12];
    embedding::forward(View::Bf16(&table), &ids, 4, &mut y, Write::Replace);
    close("gathered", &y, &gather(&exact));
    embedding::forward(View::Bf16(&table), &ids, 4, &mut y, Write::Accumulate);
    close("added", &y, &gather(&exact).iter().map(|x| 2.0 * x).collect::<Vec<_>>());
    let mut d = vec![0.0; 24];
    embedding::backward(&ids, 4, &dy, &mut d);
    close("scattered", &d, &differences(&exact, |t| inner(&gather(t), &dy)));
}
