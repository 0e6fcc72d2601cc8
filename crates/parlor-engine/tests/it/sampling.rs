//! Each sampling parameter against its definition, and the distribution that is drawn from.

use parlor_engine::{EndConditions, Sampler, SamplingError, SamplingParams, argmax};
use proptest::prelude::*;

const LOGITS: [f32; 6] = [2.0, 1.0, 0.5, 0.0, -1.0, f32::NEG_INFINITY];

fn off() -> SamplingParams {
    SamplingParams { temperature: 1.0, seed: Some(1), ..SamplingParams::greedy(8) }
}

/// A sampler for an answer without an end.
fn sampler(params: SamplingParams, prompt: &[u32]) -> Sampler {
    Sampler::new(params, EndConditions::default(), prompt, 99)
}

/// Share of each token over many draws without memory.
fn shares(params: &SamplingParams) -> Vec<f64> {
    let draws = 20_000;
    let mut counts = vec![0.0; LOGITS.len()];
    for seed in 0..draws {
        let params = SamplingParams { seed: Some(seed), ..params.clone() };
        let id = sampler(params, &[]).next(&mut LOGITS.to_vec()).unwrap();
        counts[id as usize] += 1.0 / draws as f64;
    }
    counts
}

fn softmax(kept: &[usize], temperature: f64) -> Vec<f64> {
    let weight =
        |id: usize| if kept.contains(&id) { (f64::from(LOGITS[id]) / temperature).exp() } else { 0.0 };
    let sum: f64 = (0..LOGITS.len()).map(weight).sum();
    (0..LOGITS.len()).map(|id| weight(id) / sum).collect()
}

/// Over 20,000 draws the standard deviation of a share is at most 0.0036: five of them are allowed.
fn check(params: SamplingParams, kept: &[usize], temperature: f64) {
    for (id, (got, want)) in shares(&params).iter().zip(softmax(kept, temperature)).enumerate() {
        assert!((got - want).abs() < 0.018, "{params:?}: token {id} drawn {got:.3}, want {want:.3}");
    }
}

#[test]
fn every_filter_keeps_what_it_says() {
    let all = [0, 1, 2, 3, 4];
    check(off(), &all, 1.0);
    check(SamplingParams { temperature: 0.5, ..off() }, &all, 0.5);
    check(SamplingParams { top_k: 2, ..off() }, &[0, 1], 1.0);
    check(SamplingParams { top_k: 99, ..off() }, &all, 1.0);
    // Probabilities are .52 .19 .12 .07 .03 (of .93): cumulated .563 .770 .896 .972 1.
    check(SamplingParams { top_p: 0.75, ..off() }, &[0, 1], 1.0);
    check(SamplingParams { top_p: 0.01, ..off() }, &[0], 1.0);
    // min-p keeps logits above 2 + ln(0.2) = 0.39.
    check(SamplingParams { min_p: 0.2, ..off() }, &[0, 1, 2], 1.0);
}

#[test]
fn typical_keeps_tokens_of_expected_surprise() {
    // Entropy is 1.23 nats; surprises are .57 1.57 2.07 2.57 3.57, nearest first: 1, 0, 2, 3, 4.
    check(SamplingParams { typical_p: 0.1, ..off() }, &[1], 1.0);
    check(SamplingParams { typical_p: 0.7, ..off() }, &[0, 1], 1.0);
}

#[test]
fn greedy_takes_the_likeliest_and_the_lowest_on_a_tie() {
    assert_eq!(argmax(&[0.0, 3.0, 3.0]), Some(1));
    assert_eq!(argmax(&[f32::NAN, -1.0]), Some(1));
    assert_eq!(argmax(&[f32::NAN]), None);
    assert_eq!(argmax(&[]), None);
    let mut one = sampler(SamplingParams::greedy(1), &[]);
    assert_eq!(one.next(&mut LOGITS.to_vec()), Ok(0));
}

#[test]
fn penalties_follow_their_definitions() {
    // Repetition counts the prompt: token 0 falls from 2.0 to 0.8, below token 1.
    let params = SamplingParams { repetition_penalty: 2.5, ..SamplingParams::greedy(4) };
    let mut one = sampler(params, &[0]);
    assert_eq!(one.next(&mut LOGITS.to_vec()), Ok(1));
    // ... and now token 1 too: 0.8, 0.4, 0.5.
    assert_eq!(one.next(&mut LOGITS.to_vec()), Ok(0));
    // A negative logit is multiplied, so that it falls as well.
    let params = SamplingParams { repetition_penalty: 2.0, ..SamplingParams::greedy(4) };
    assert_eq!(sampler(params, &[0]).next(&mut [-1.0, -1.5]), Ok(1));
    // Frequency and presence count generated tokens only.
    let params = SamplingParams { frequency_penalty: 0.6, ..SamplingParams::greedy(4) };
    let mut one = sampler(params, &[0, 0, 0]);
    let drawn: Vec<u32> = (0..4).map(|_| one.next(&mut LOGITS.to_vec()).unwrap()).collect();
    assert_eq!(drawn, [0, 0, 1, 0]); // 2.0, 1.4, then 0.8 < 1.0, then 0.8 > 0.4 and 0.5
    let params = SamplingParams { presence_penalty: 1.2, ..SamplingParams::greedy(4) };
    let mut one = sampler(params, &[]);
    let drawn: Vec<u32> = (0..4).map(|_| one.next(&mut LOGITS.to_vec()).unwrap()).collect();
    assert_eq!(drawn, [0, 1, 0, 0]); // 2.0 | .8 1.0 | .8 -.2 .5 | once only
}

#[test]
fn a_seed_repeats_a_draw() {
    let draw = |seed| {
        let mut one = sampler(SamplingParams { seed: Some(seed), ..off() }, &[]);
        (0..20).map(|_| one.next(&mut LOGITS.to_vec()).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(draw(3), draw(3));
    assert_ne!(draw(3), draw(4));
}

#[test]
fn extreme_values_give_what_they_say() {
    let next = |params: SamplingParams, logits: &[f32]| sampler(params, &[]).next(&mut logits.to_vec());
    let logits = [3.0, -80.0, 2.9, 80.0, 79.9, 80.0, -3.0];
    for temperature in [f32::MIN_POSITIVE, 1e-45, 1e-38, 1e-20, 1e-6] {
        for seed in 0..20 {
            let params = SamplingParams { temperature, seed: Some(seed), ..off() };
            assert!(matches!(next(params, &logits), Ok(3 | 5)), "temperature {temperature}");
        }
    }
    for params in [
        SamplingParams { top_p: 0.0, ..off() },
        SamplingParams { top_p: 1e-45, ..off() },
        SamplingParams { top_k: 1, ..off() },
        SamplingParams { min_p: 1.0, ..off() },
        SamplingParams { epsilon_cutoff: 0.999, ..off() },
        SamplingParams { temperature: f32::MAX, top_k: 1, ..off() },
    ] {
        assert_eq!(next(params.clone(), &LOGITS), Ok(0), "{params:?}");
    }
    // Any temperature of that size makes all tokens alike.
    let flat =
        sampler(SamplingParams { temperature: f32::MAX, ..off() }, &[]).distribution(&mut LOGITS.to_vec());
    assert_eq!(flat.len(), 5);
    assert!(flat.iter().all(|(_, probability)| (probability - 0.2).abs() < 1e-12), "{flat:?}");
    // What is infinitely likelier than the rest is taken, and what is no number is not.
    let infinite = [1.0, f32::INFINITY, f32::NAN, 5.0];
    for temperature in [0.0, 1e-38, 1.0, f32::MAX] {
        assert_eq!(next(SamplingParams { temperature, ..off() }, &infinite), Ok(1));
    }
    let params = SamplingParams { repetition_penalty: 1e-40, ..off() };
    assert_eq!(sampler(params, &[3]).next(&mut [1.0, 2.0, 3.0, 4.0]), Ok(3));
}

#[test]
fn that_no_token_is_left_is_said() {
    let params = SamplingParams { suppress_tokens: vec![0, 1], ..SamplingParams::greedy(1) };
    assert_eq!(sampler(params.clone(), &[]).next(&mut [1.0, 2.0]), Err(SamplingError::Forbidden));
    assert_eq!(sampler(params, &[]).next(&mut [f32::NAN, f32::NEG_INFINITY]), Err(SamplingError::NotFinite));
    let params = SamplingParams { forced_bos_token_id: Some(9), ..SamplingParams::greedy(1) };
    assert_eq!(sampler(params, &[1]).next(&mut [1.0, 2.0]), Err(SamplingError::Forbidden));
    let params = SamplingParams { remove_invalid_values: true, ..SamplingParams::greedy(1) };
    assert_eq!(sampler(params, &[]).next(&mut [f32::NEG_INFINITY, f32::NAN]), Ok(1));
}

#[test]
fn values_out_of_range_are_named() {
    let params = SamplingParams {
        temperature: -1.0,
        top_p: -1.0,
        min_p: 2.0,
        repetition_penalty: f32::NAN,
        stop: vec![String::new()],
        ..SamplingParams::default()
    };
    insta::assert_snapshot!(params.problems().join("\n"), @r"
    `temperature` is -1; it must be 0 (greedy) or a positive number
    `top_p` is -1; it must be from 0 (the likeliest alone) to 1 (off)
    `min_p` is 2; it must be from 0 (off) to 1
    `repetition_penalty` is NaN; it must be above 0 (1 is off)
    `stop` holds an empty text, which would end every answer at once
    ");
    assert!(SamplingParams::default().problems().is_empty());
    assert!(SamplingParams::greedy(3).problems().is_empty());
}

proptest! {
    /// Whatever the logits and the parameters, the choice is a token with a finite logit, and nothing panics.
    #[test]
    fn any_logits_are_survived(
        logits in prop::collection::vec(prop_oneof![
            -1e30f32..1e30, -5f32..5.0, Just(f32::NEG_INFINITY), Just(f32::NAN),
        ], 0..600),
        top_k in 0usize..20, top_p in 0f32..=1.0, min_p in 0f32..=1.0, typical_p in 0.01f32..=1.0,
        temperature in prop_oneof![0f32..3.0, Just(1e-45), Just(1e-38), Just(f32::MAX)],
        top_h in prop::option::of(0.01f32..=1.0), epsilon_cutoff in 0f32..1.0, eta_cutoff in 0f32..1.0,
    ) {
        let params = SamplingParams {
            temperature, top_k, top_p, min_p, typical_p, top_h, epsilon_cutoff, eta_cutoff, ..off()
        };
        match sampler(params, &[]).next(&mut logits.clone()) {
            Ok(id) => prop_assert!(logits[id as usize].is_finite()),
            Err(none) => {
                prop_assert_eq!(none, SamplingError::NotFinite);
                prop_assert!(!logits.iter().any(|logit| logit.is_finite()));
            }
        }
    }
}
