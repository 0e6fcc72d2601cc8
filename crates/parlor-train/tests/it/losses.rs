//! Each preference loss: its derivative against finite differences, and its values at extremes.

use parlor_train::objectives::{
    CompletionLogps, KtoWeights, Pair, PairLoss, hinge_loss, ipo_loss, kto_kl, kto_loss, orpo_loss,
    robust_loss, sigmoid_loss, simpo_loss,
};

/// Log-probabilities of a pair, as multiples of 2^-10, so that the steps below are exact in f32.
#[derive(Clone)]
struct Logps {
    prompt: Vec<f32>,
    chosen: [Vec<f32>; 2],
    rejected: [Vec<f32>; 2],
}

impl Logps {
    fn new(seed: u32) -> Self {
        let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12345);
        let mut draw = |count: u32| -> Vec<f32> {
            (0..count)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    -((state >> 20) as f32 + 1000.0) / 1024.0
                })
                .collect()
        };
        let (chosen, rejected) = (1 + seed % 4, 1 + seed / 4 % 5);
        Self {
            prompt: draw(seed % 3),
            chosen: [draw(chosen), draw(chosen)],
            rejected: [draw(rejected), draw(rejected)],
        }
    }

    fn of<T>(&self, loss: impl Fn(&Pair<'_>) -> T) -> T {
        let completion = |[logp, reference]: &'_ [Vec<f32>; 2]| (logp.clone(), reference.clone());
        let ((a, b), (c, d)) = (completion(&self.chosen), completion(&self.rejected));
        loss(&Pair {
            prompt: &self.prompt,
            chosen: CompletionLogps { logp: &a, reference: &b },
            rejected: CompletionLogps { logp: &c, reference: &d },
        })
    }
}

/// Central differences at two step widths, extrapolated: their error falls with the fourth power of the step.
fn slope(at: impl Fn(f32) -> f64) -> f64 {
    let central = |step: f32| (at(step) - at(-step)) / (2.0 * f64::from(step));
    (4.0 * central(1.0 / 32.0) - central(1.0 / 16.0)) / 3.0
}

/// The step's fourth power is 1.5e-5; fifth derivatives of these losses stay below `1 + |slope|` at these sizes.
fn close(found: f64, wanted: f64) -> bool {
    (found - wanted).abs() < 2e-5 * (1.0 + wanted.abs())
}

fn check(name: &str, loss: impl Fn(&Pair<'_>) -> PairLoss) {
    for seed in 0..60 {
        let logps = Logps::new(seed);
        let found = logps.of(&loss);
        assert!(found.value.is_finite(), "{name} {seed}: {found:?}");
        let moved = |change: &dyn Fn(&mut Logps)| {
            let mut moved = logps.clone();
            change(&mut moved);
            moved.of(&loss).value
        };
        for at in 0..logps.chosen[0].len() {
            let wanted = slope(|step| moved(&|logps| logps.chosen[0][at] += step));
            assert!(close(found.d_chosen, wanted), "{name} {seed}: chosen {found:?}, {wanted}");
        }
        for at in 0..logps.rejected[0].len() {
            let wanted = slope(|step| moved(&|logps| logps.rejected[0][at] += step));
            assert!(close(found.d_rejected, wanted), "{name} {seed}: rejected {found:?}, {wanted}");
        }
        for at in 0..logps.prompt.len() {
            let wanted = slope(|step| moved(&|logps| logps.prompt[at] += step));
            assert!(close(found.d_prompt, wanted), "{name} {seed}: prompt {found:?}, {wanted}");
        }
    }
}

#[test]
fn derivatives_are_those_of_finite_differences() {
    for beta in [0.1, 0.7] {
        check("sigmoid", |pair| sigmoid_loss(pair, beta, 0.0));
        check("sigmoid, smoothed", |pair| sigmoid_loss(pair, beta, 0.2));
        check("robust", |pair| robust_loss(pair, beta, 0.1));
        check("ipo", |pair| ipo_loss(pair, beta));
        check("simpo", |pair| simpo_loss(pair, beta, 0.5, 0.1));
        check("orpo", |pair| orpo_loss(pair, beta, 0.25).loss);
    }
    // Away from its kink, which steps of these widths would reach over at a larger beta.
    check("hinge", |pair| hinge_loss(pair, 0.01));
    check("hinge, met", |pair| hinge_loss(pair, 0.0));
}

#[test]
fn the_hinge_is_flat_beyond_its_margin() {
    let far = Pair {
        prompt: &[],
        chosen: CompletionLogps { logp: &[-1.0], reference: &[-9.0] },
        rejected: CompletionLogps { logp: &[-9.0], reference: &[-1.0] },
    };
    assert_eq!(hinge_loss(&far, 1.0), PairLoss::default());
    let back = Pair { chosen: far.rejected, rejected: far.chosen, ..far };
    assert_eq!(
        hinge_loss(&back, 1.0),
        PairLoss { value: 17.0, d_prompt: 0.0, d_chosen: -1.0, d_rejected: 1.0 }
    );
}

#[test]
fn derivatives_of_unpaired_completions_are_those_of_finite_differences() {
    for seed in 0..60 {
        let Logps { chosen: [logp, reference], .. } = Logps::new(seed);
        for (desirable, kl) in [(true, 0.0), (false, 0.0), (true, 1.3), (false, 0.4)] {
            let weights = KtoWeights { beta: 0.3, desirable: 1.2, undesirable: 0.7 };
            let of = |logp: &[f32]| {
                kto_loss(CompletionLogps { logp, reference: &reference }, desirable, kl, &weights)
            };
            let (_, found) = of(&logp);
            for at in 0..logp.len() {
                let wanted = slope(|step| {
                    let mut logp = logp.clone();
                    logp[at] += step;
                    of(&logp).0
                });
                assert!(close(found, wanted), "{seed}: {found}, {wanted}");
            }
        }
    }
}

#[test]
fn the_divergence_is_a_mean_and_never_negative() {
    let completion = |logp, reference| CompletionLogps { logp, reference };
    let (up, down) = (completion(&[-1.0, -1.0], &[-2.0, -3.0]), completion(&[-4.0], &[-3.0]));
    assert_eq!(kto_kl([up, down].into_iter()), 1.0);
    assert_eq!(kto_kl([down, down].into_iter()), 0.0);
    assert_eq!(kto_kl(std::iter::empty()), 0.0);
}

#[test]
fn extremes_stay_finite() {
    for (chosen, rejected) in
        [(-1e-30, -1e5), (-1e5, -1e-30), (0.0, 0.0), (-1e5, -1e5), (0.0, -1e5), (-1e5, 0.0)]
    {
        let (chosen, rejected) = ([chosen; 3], [rejected; 2]);
        let pair = Pair {
            prompt: &[-3.0],
            chosen: CompletionLogps { logp: &chosen, reference: &[] },
            rejected: CompletionLogps { logp: &rejected, reference: &[] },
        };
        for found in [
            sigmoid_loss(&pair, 0.5, 0.1),
            robust_loss(&pair, 0.5, 0.1),
            hinge_loss(&pair, 0.5),
            ipo_loss(&pair, 0.5),
            simpo_loss(&pair, 2.0, 1.0, 0.0),
            orpo_loss(&pair, 0.5, 0.1).loss,
        ] {
            let PairLoss { value, d_prompt, d_chosen, d_rejected } = found;
            assert!([value, d_prompt, d_chosen, d_rejected].iter().all(|x| x.is_finite()), "{found:?}");
        }
    }
}
