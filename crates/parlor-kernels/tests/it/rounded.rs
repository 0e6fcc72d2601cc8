//! Activations in bf16: an operation that writes them makes what it makes in f32, rounded once; one that reads them makes what it
//! makes of their values in f32.

use half::bf16;
use parlor_kernels::activation::{self, Activation};
use parlor_kernels::cross_entropy::{self, BackwardInputs, Head, Logits};
use parlor_kernels::linear::{self, Layer, LayerGradient, Shape};
use parlor_kernels::{Arithmetic, Values, ValuesMut, View, Write, norm};

use crate::Numbers;

/// To nearest, ties to even, as the crate `half` does it.
fn rounded(values: &[f32]) -> Vec<bf16> {
    values.iter().map(|&x| bf16::from_f32(x)).collect()
}

fn widened(values: &[bf16]) -> Vec<f32> {
    values.iter().map(|x| x.to_f32()).collect()
}

#[test]
fn norms_round_what_they_write() {
    for (rows, width) in [(1, 1), (3, 17), (130, 96)] {
        let mut numbers = Numbers::new(width as u64);
        let (x, weight, bias) = (numbers.vec(rows * width), numbers.vec(width), numbers.vec(width));
        let mut y = vec![0.0; x.len()];
        let mut narrow = vec![bf16::ZERO; x.len()];
        let mut kept = vec![0.0; rows];
        norm::rms_forward(&x, &weight, 1e-6, &mut y, &mut kept);
        norm::rms_forward(&x, &weight, 1e-6, ValuesMut::Bf16(&mut narrow), &mut kept);
        assert_eq!(narrow, rounded(&y), "RMS norm, {rows} rows of {width}");
        let mut kept = vec![norm::RowMoments::default(); rows];
        norm::layer_forward(&x, (&weight, &bias), 1e-6, &mut y, &mut kept);
        norm::layer_forward(&x, (&weight, &bias), 1e-6, ValuesMut::Bf16(&mut narrow), &mut kept);
        assert_eq!(narrow, rounded(&y), "layer norm, {rows} rows of {width}");
    }
}

#[test]
fn activations_read_and_write_bf16_and_compute_in_f32() {
    let mut numbers = Numbers::new(9);
    let len = 1001;
    let (gate, up, dy) = (rounded(&numbers.vec(len)), rounded(&numbers.vec(len)), numbers.vec(len));
    for kind in [Activation::Silu, Activation::GeluTanh] {
        let mut y = vec![0.0; len];
        let mut narrow = vec![bf16::ZERO; len];
        activation::gated_forward(kind, &widened(&gate), &widened(&up), &mut y);
        activation::gated_forward(kind, View::Bf16(&gate), View::Bf16(&up), ValuesMut::Bf16(&mut narrow));
        assert_eq!(narrow, rounded(&y), "{kind:?} gated");
        activation::forward(kind, &widened(&up), &mut y);
        activation::forward(kind, View::Bf16(&up), ValuesMut::Bf16(&mut narrow));
        assert_eq!(narrow, rounded(&y), "{kind:?}");

        let (mut d_gate, mut d_up) = (widened(&gate), widened(&up));
        activation::gated_backward(kind, &mut d_gate, &mut d_up, &dy);
        let (mut narrow_gate, mut narrow_up) = (gate.clone(), up.clone());
        let narrow = (ValuesMut::Bf16(&mut narrow_gate), ValuesMut::Bf16(&mut narrow_up));
        activation::gated_backward(kind, narrow.0, narrow.1, &dy);
        assert_eq!((narrow_gate, narrow_up), (rounded(&d_gate), rounded(&d_up)), "{kind:?} gated backward");
        let (mut d, mut narrow) = (widened(&up), up.clone());
        activation::backward(kind, &mut d, &dy);
        activation::backward(kind, ValuesMut::Bf16(&mut narrow), &dy);
        assert_eq!(narrow, rounded(&d), "{kind:?} backward");
    }
}

#[test]
fn values_round_to_nearest_and_keep_what_is_no_number() {
    let mut numbers = Numbers::new(4);
    let mut from = numbers.vec(40_000);
    from[..6].copy_from_slice(&[f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0, f32::MAX]);
    let mut values = Values::default();
    values.round(&from);
    let View::Bf16(got) = values.view() else { panic!("{values:?}") };
    assert!(got[0].is_nan());
    assert_eq!(&got[1..], &rounded(&from[1..]));
}

/// Products in bf16 of values that are rounded already are those of the values they are rounded from, for layers that share
/// an input too.
#[test]
fn products_read_bf16_as_they_round_f32() {
    for (rows, inputs, outputs) in [(1, 1, [1, 1]), (37, 70, [33, 5]), (150, 96, [64, 130])] {
        let mut numbers = Numbers::new((rows + inputs) as u64);
        let x = numbers.vec(rows * inputs);
        let narrow = rounded(&x);
        let weights = outputs.map(|outputs| numbers.vec(outputs * inputs));
        let dy = outputs.map(|outputs| numbers.vec(rows * outputs));
        let narrow_dy = dy.each_ref().map(|dy| rounded(dy));
        let shape = |outputs| Shape { rows, inputs, outputs, arithmetic: Arithmetic::Bf16 };

        let forward = |x: View<'_>, one_by_one: bool| {
            let mut y = outputs.map(|outputs| vec![0.0; rows * outputs]);
            let layers = weights.iter().zip(&mut y).map(|(weight, y)| Layer {
                weight: View::F32(weight),
                bias: None,
                y,
                write: Write::Replace,
                addend: None,
                low_rank: None,
            });
            let mut layers: Vec<_> = layers.collect();
            if one_by_one {
                for layer in &mut layers {
                    let shape = shape(layer.weight.len() / inputs);
                    linear::forward_all(x, shape, std::slice::from_mut(layer));
                }
            } else {
                linear::forward_all(x, shape(outputs[0] + outputs[1]), &mut layers);
            }
            y
        };
        let want = forward(View::F32(&x), true);
        assert_eq!(forward(View::F32(&x), false), want);
        assert_eq!(forward(View::Bf16(&narrow), false), want);

        let backward = |x: View<'_>, dy: [View<'_>; 2], one_by_one: bool| {
            let mut dw = weights.each_ref().map(|weight| vec![1.0; weight.len()]);
            let [first, second] = &mut dw;
            let mut layers = [
                LayerGradient { dy: dy[0], dw: first.into(), write: Write::Accumulate },
                LayerGradient { dy: dy[1], dw: second.into(), write: Write::Accumulate },
            ];
            if one_by_one {
                for (layer, outputs) in layers.iter_mut().zip(outputs) {
                    linear::backward_weights(x, shape(outputs), std::slice::from_mut(layer));
                }
            } else {
                linear::backward_weights(x, shape(outputs[0] + outputs[1]), &mut layers);
            }
            let mut dx = vec![0.0; rows * inputs];
            let weight = View::F32(&weights[0]);
            linear::backward_input(dy[0], weight, &mut dx, Write::Replace, shape(outputs[0]));
            (dw, dx)
        };
        let (wide, narrow_dy) =
            (dy.each_ref().map(|dy| View::F32(dy)), narrow_dy.each_ref().map(|dy| View::Bf16(dy)));
        let want = backward(View::F32(&x), wide, true);
        assert_eq!(backward(View::F32(&x), wide, false), want);
        assert_eq!(backward(View::Bf16(&narrow), narrow_dy, false), want);
    }
}

/// A head's gradients in bf16 are near those in f32: each of the products' operands is off by at most half a unit of bf16.
#[test]
fn a_head_in_bf16_is_near_one_in_f32() {
    let (rows, vocab, hidden) = (20, 300, 33);
    let mut numbers = Numbers::new(2);
    let (x, weight, d) = (numbers.vec(rows * hidden), numbers.vec(vocab * hidden), numbers.vec(rows));
    let targets: Vec<u32> = (0..rows).map(|_| numbers.below(vocab) as u32).collect();
    let run = |arithmetic, frozen: bool| {
        let head = Head { weight: View::F32(&weight), vocab, hidden, arithmetic };
        let (mut logp, mut lse) = (vec![0.0; rows], vec![0.0; rows]);
        let (mut dx, mut dw) = (vec![0.0; x.len()], vec![0.0; weight.len()]);
        let (mut logits, mut slope) = (Logits::default(), vec![0.0; x.len()]);
        let kept = frozen.then_some(&mut slope[..]);
        cross_entropy::forward(head, (&x, &targets), (&mut logp, &mut lse), &mut logits, kept);
        if frozen {
            cross_entropy::backward_frozen(&slope, &d, &mut dx);
        } else {
            let rows = BackwardInputs { x: &x, targets: &targets, lse: &lse, d_logp: &d };
            cross_entropy::backward(
                head,
                rows,
                &mut dx,
                Some(((&mut dw).into(), Write::Accumulate)),
                &mut logits,
            );
        }
        (logp, dx, dw)
    };
    let largest = |values: &[f32]| values.iter().fold(0.0f32, |most, x| most.max(x.abs()));
    for frozen in [false, true] {
        let (wide, narrow) = (run(Arithmetic::F32, frozen), run(Arithmetic::Bf16, frozen));
        for (name, wide, narrow) in
            [("logp", &wide.0, &narrow.0), ("dx", &wide.1, &narrow.1), ("dw", &wide.2, &narrow.2)]
        {
            // Two rounded operands, each off by 2^-9 of itself, and logits that are off as much.
            let bound = 4.0 * 2f32.powi(-9) * largest(wide).max(1.0);
            for (wide, narrow) in wide.iter().zip(narrow) {
                assert!((wide - narrow).abs() <= bound, "{name}, frozen {frozen}: {wide} and {narrow}");
            }
        }
    }
}
