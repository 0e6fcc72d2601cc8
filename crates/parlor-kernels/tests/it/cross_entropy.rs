//! The fused head: log-probabilities and gradients, across tile borders.

use half::bf16;
use parlor_kernels::cross_entropy::{self, BackwardInputs, Head, Logits};
use parlor_kernels::{Arithmetic, View, Write};

use crate::{Numbers, close, differences, inner, wide};

fn reference(x: &[f64], w: &[f64], targets: &[u32], hidden: usize) -> Vec<f64> {
    x.chunks(hidden)
        .zip(targets)
        .map(|(x, &target)| {
            let logits: Vec<f64> =
                w.chunks(hidden).map(|w| w.iter().zip(x).map(|(w, x)| w * x).sum()).collect();
            let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            logits[target as usize] - max - logits.iter().map(|l| (l - max).exp()).sum::<f64>().ln()
        })
        .collect()
}

fn check(rows: usize, vocab: usize, hidden: usize) {
    let mut numbers = Numbers::new((rows + vocab) as u64);
    let (x, d) = (numbers.vec(rows * hidden), numbers.vec(rows));
    let w: Vec<bf16> = numbers.vec(vocab * hidden).iter().map(|&w| bf16::from_f32(w * 3.0)).collect();
    let w32: Vec<f32> = w.iter().map(|w| w.to_f32()).collect();
    let targets: Vec<u32> = (0..rows).map(|_| numbers.below(vocab) as u32).collect();
    let want = reference(&wide(&x), &wide(&w32), &targets, hidden);
    for weight in [View::F32(&w32), View::Bf16(&w)] {
        let head = Head { weight, vocab, hidden, arithmetic: Arithmetic::F32 };
        let (mut logp, mut lse) = (vec![0.0; rows], vec![0.0; rows]);
        let mut logits = Logits::default();
        cross_entropy::forward(head, (&x, &targets), (&mut logp, &mut lse), &mut logits, None);
        close("logp", &logp, &want);
        let (mut dx, mut dw) = (vec![0.0; x.len()], vec![0.0; w.len()]);
        let rows = BackwardInputs { x: &x, targets: &targets, lse: &lse, d_logp: &d };
        cross_entropy::backward(
            head,
            rows,
            &mut dx,
            Some(((&mut dw).into(), Write::Accumulate)),
            &mut logits,
        );
        let loss = |x: &[f64], w: &[f64]| inner(&reference(x, w, &targets, hidden), &d);
        close("dx", &dx, &differences(&wide(&x), |x| loss(x, &wide(&w32))));
        close("dw", &dw, &differences(&wide(&w32), |w| loss(&wide(&x), w)));
        let mut head_gradient = vec![f32::NAN; x.len()];
        cross_entropy::forward(
            head,
            (&x, &targets),
            (&mut logp, &mut lse),
            &mut logits,
            Some(&mut head_gradient),
        );
        close("logp with head gradient", &logp, &want);
        cross_entropy::backward_frozen(&head_gradient, &d, &mut dx);
        close("dx of a frozen head", &dx, &differences(&wide(&x), |x| loss(x, &wide(&w32))));
    }
}

#[test]
fn head_matches_the_f64_reference() {
    for (rows, vocab, hidden) in [(1, 1, 1), (3, 7, 5), (9, 33, 17)] {
        check(rows, vocab, hidden);
    }
}

#[test]
fn tiles_of_rows_equal_row_by_row() {
    // More rows than one tile has.
    let (rows, vocab, hidden) = (1030, 11, 3);
    let mut numbers = Numbers::new(8);
    let (x, w) = (numbers.vec(rows * hidden), numbers.vec(vocab * hidden));
    let targets: Vec<u32> = (0..rows).map(|row| (row % vocab) as u32).collect();
    let (mut logp, mut lse) = (vec![0.0; rows], vec![0.0; rows]);
    let head = Head { weight: View::F32(&w), vocab, hidden, arithmetic: Arithmetic::F32 };
    let mut logits = Logits::default();
    cross_entropy::forward(head, (&x, &targets), (&mut logp, &mut lse), &mut logits, None);
    close("logp", &logp, &reference(&wide(&x), &wide(&w), &targets, hidden));
}

#[test]
fn tiles_of_a_large_vocabulary_equal_the_whole() {
    let (rows, vocab, hidden) = (5, 20_011, 3);
    let mut numbers = Numbers::new(10);
    let (x, d) = (numbers.vec(rows * hidden), numbers.vec(rows));
    // Weights that grow along the vocabulary: the largest logit of a row is in the last tile, or in the first.
    let w: Vec<f32> = numbers
        .vec(vocab * hidden)
        .iter()
        .enumerate()
        .map(|(index, w)| w + index as f32 / (vocab * hidden) as f32 * 8.0)
        .collect();
    let targets = [0, 9_999, 20_010, 12_345, 7_000];
    let head = Head { weight: View::F32(&w), vocab, hidden, arithmetic: Arithmetic::F32 };
    let (mut logp, mut lse) = (vec![0.0; rows], vec![0.0; rows]);
    let mut logits = Logits::default();
    cross_entropy::forward(head, (&x, &targets), (&mut logp, &mut lse), &mut logits, None);
    let want = reference(&wide(&x), &wide(&w), &targets, hidden);
    close("logp", &logp, &want);
    let (mut dx, mut dw) = (vec![0.0; x.len()], vec![0.0; w.len()]);
    let whole = BackwardInputs { x: &x, targets: &targets, lse: &lse, d_logp: &d };
    cross_entropy::backward(head, whole, &mut dx, Some(((&mut dw).into(), Write::Accumulate)), &mut logits);
    let (mut want_dx, mut want_dw) = (vec![0.0; x.len()], vec![0.0; w.len()]);
    for row in 0..rows {
        let x: Vec<f64> = wide(&x[row * hidden..(row + 1) * hidden]);
        let logit = |token: usize| inner(&x, &w[token * hidden..(token + 1) * hidden]);
        let log_sum = logit(targets[row] as usize) - want[row];
        for token in 0..vocab {
            let p = (logit(token) - log_sum).exp();
            let d_logit = f64::from(d[row]) * (f64::from(u8::from(token == targets[row] as usize)) - p);
            for at in 0..hidden {
                let element = token * hidden + at;
                want_dx[row * hidden + at] += d_logit * f64::from(w[element]);
                want_dw[element] += d_logit * x[at];
            }
        }
    }
    close("dx", &dx, &want_dx);
    close("dw", &dw, &want_dw);
    let mut head_gradient = vec![f32::NAN; x.len()];
    cross_entropy::forward(
        head,
        (&x, &targets),
        (&mut logp, &mut lse),
        &mut logits,
        Some(&mut head_gradient),
    );
    close("logp with head gradient", &logp, &want);
    cross_entropy::backward_frozen(&head_gradient, &d, &mut dx);
    close("dx of a frozen head", &dx, &want_dx);
    // A NaN in one tile is not masked by the others.
    let mut broken = w.clone();
    broken[15_000 * hidden] = f32::NAN;
    let head = Head { weight: View::F32(&broken), ..head };
    cross_entropy::forward(head, (&x, &targets), (&mut logp, &mut lse), &mut logits, None);
    assert!(lse.iter().chain(&logp).all(|value| value.is_nan()), "{lse:?} {logp:?}");
}

#[test]
fn extreme_logits_do_not_overflow_and_nan_propagates() {
    // One row of input 1, so that the logits are the weights.
    let lse_of = |logits: &[f32]| {
        let head =
            Head { weight: View::F32(logits), vocab: logits.len(), hidden: 1, arithmetic: Arithmetic::F32 };
        let (mut logp, mut lse) = ([0.0], [0.0]);
        cross_entropy::forward(head, (&[1.0], &[0]), (&mut logp, &mut lse), &mut Logits::default(), None);
        lse[0]
    };
    assert_eq!(lse_of(&[1e30, -1e30, 0.0]), 1e30);
    assert!(lse_of(&[0.0, f32::NAN]).is_nan());
    assert_eq!(lse_of(&[f32::NEG_INFINITY; 3]), f32::NEG_INFINITY);
}

#[test]
fn kept_logits_equal_recomputed_ones() {
    // One tile, which the forward keeps for the backward; two tiles; and more, of which only the last is kept.
    for (rows, vocab) in [(1030, 11), (9, 9000), (1030, 16_400)] {
        check_kept(rows, vocab, 3);
    }
}

fn check_kept(rows: usize, vocab: usize, hidden: usize) {
    let mut numbers = Numbers::new(9);
    let (x, w, d) = (numbers.vec(rows * hidden), numbers.vec(vocab * hidden), numbers.vec(rows));
    let targets: Vec<u32> = (0..rows).map(|row| (row % vocab) as u32).collect();
    let head = Head { weight: View::F32(&w), vocab, hidden, arithmetic: Arithmetic::F32 };
    let (mut logp, mut lse) = (vec![0.0; rows], vec![0.0; rows]);
    let mut kept = Logits::default();
    cross_entropy::forward(head, (&x, &targets), (&mut logp, &mut lse), &mut kept, None);
    let rows = BackwardInputs { x: &x, targets: &targets, lse: &lse, d_logp: &d };
    let gradients = |mut logits: Logits| {
        let (mut dx, mut dw) = (vec![0.0; x.len()], vec![0.0; w.len()]);
        cross_entropy::backward(
            head,
            rows,
            &mut dx,
            Some(((&mut dw).into(), Write::Accumulate)),
            &mut logits,
        );
        // The kept tiles are consumed: a second backward recomputes them.
        let mut again = vec![0.0; x.len()];
        cross_entropy::backward(head, rows, &mut again, None, &mut logits);
        assert_eq!(dx, again);
        (dx, dw)
    };
    assert_eq!(gradients(kept), gradients(Logits::default()));
}
