//! The loop: it learns, accumulates exactly, evaluates, stops early, and stops on what is not a number.

use parlor_kernels::DType;
use parlor_model::Decoder;
use parlor_train::config::OptimizerName;
use parlor_train::{Outcome, TrainError, TrainEvent};

use serde_json::{Map, Value};

use crate::tiny::{self, LoopTest, Rows, bits};

#[test]
fn the_loss_falls_and_the_run_repeats_bit_for_bit() {
    let run = || {
        let dir = tempfile::tempdir().unwrap();
        let mut decoder = tiny::decoder();
        let mut run = LoopTest::new(dir.path());
        run.hyper.num_train_epochs = 6;
        let (finished, rows, _) = run.go(&mut decoder);
        (finished.unwrap(), rows, bits(&decoder))
    };
    let (finished, rows, first) = run();
    assert_eq!((finished.outcome, finished.steps, rows.len()), (Outcome::Completed, 30, 30));
    let loss = |n: usize| rows[n]["loss"].as_f64().unwrap();
    // Uniform over 29 tokens is ln 29 = 3.37.
    assert!((loss(0) - 29f64.ln()).abs() < 0.3, "first loss {}", loss(0));
    assert!(loss(29) < 0.7 * loss(0), "{} to {}", loss(0), loss(29));
    assert_eq!(run().2, first);
}

#[test]
fn bf16_products_follow_the_losses_of_f32() {
    let run = |bf16| {
        let dir = tempfile::tempdir().unwrap();
        let mut decoder = tiny::decoder();
        let mut run = LoopTest::new(dir.path());
        run.hyper.num_train_epochs = 6;
        run.training.bf16 = bf16;
        let (finished, rows, _) = run.go(&mut decoder);
        finished.unwrap();
        (rows, bits(&decoder))
    };
    let ((exact, weights), (rounded, first)) = (run(false), run(true));
    // Rounding changes each operand by up to 2^-9 of itself, at random, and so a product by about 2^-8 of its
    // usual size; through the 15 products in a row the changes add as a random walk, to 1.5% of logits of
    // size 1. A mean over the dozens of tokens of a step has a tenth of that. Thirty steps of AdamwTorch let
    // the two runs drift by as much again.
    for (a, b) in exact.iter().zip(&rounded) {
        let (a, b) = (a["loss"].as_f64().unwrap(), b["loss"].as_f64().unwrap());
        assert!((a - b).abs() < 0.015, "{a} and {b}");
    }
    assert_ne!(weights, first);
    assert_eq!(run(true).1, first);
}

/// The largest difference between the losses of any step.
fn largest_difference(a: &Rows, b: &Rows) -> f64 {
    let loss = |row: &Map<String, Value>| row["loss"].as_f64().unwrap();
    a.iter().zip(b).map(|(a, b)| (loss(a) - loss(b)).abs()).fold(0.0, f64::max)
}

/// The decoder with every weight moved by 2^-8 of itself, up or down by a hash of its position and `seed`.
fn perturbed(seed: u64) -> Decoder {
    let mut decoder = tiny::decoder();
    let mut state = seed;
    for id in 0..decoder.parameters().len() {
        for value in decoder.values_mut(id).unwrap() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *value *= if state >> 63 == 0 { 1.0 + 1.0 / 256.0 } else { 1.0 - 1.0 / 256.0 };
        }
    }
    decoder
}

/// Weights that are bf16 themselves are rounded no more than the operands of products were above, and
/// stochastic rounding of updates adds as much again: twice the distance. Lion and Muon turn the rounding of
/// momenta near zero into whole steps (by a sign, by orthogonalisation), so their runs drift apart by more,
/// and the drift of f32 runs whose initial weights are perturbed is the measure: stochastic rounding to bf16
/// moves a weight by a deviation of at most 2^-8 of itself, each of the 30 steps does so once to the weights
/// and once to the operands of products, and no later perturbation has more steps to grow in than the initial
/// one. Sixty independent ones add up as their root.
#[test]
fn weights_of_bf16_follow_the_losses_of_f32() {
    let run_of = |pure: bool, optimizer, decoder: Decoder| {
        let dir = tempfile::tempdir().unwrap();
        let mut run = LoopTest::new(dir.path());
        run.hyper.num_train_epochs = 6;
        run.training.pure_bf16 = pure;
        run.training.optimizer = optimizer;
        let mut decoder = decoder.into_owned(run.training.weights_dtype());
        let (finished, rows, _) = run.go(&mut decoder);
        finished.unwrap();
        let narrow = decoder.parameters().iter().filter(|p| p.tensor.dtype() == DType::Bf16).count();
        assert_eq!(narrow > 0, pure);
        (rows, decoder.parameters().iter().flat_map(|p| p.tensor.to_f32_vec()).map(f32::to_bits).collect())
    };
    let run = |pure, optimizer| run_of(pure, optimizer, tiny::decoder());
    use OptimizerName::{Adafactor, Adamw8bit, AdamwTorch, Lion, Muon, Sgd};
    for optimizer in [AdamwTorch, Adamw8bit, Adafactor, Lion, Muon, Sgd] {
        let ((exact, _), (rounded, first)): ((_, Vec<u32>), (_, Vec<u32>)) =
            (run(false, optimizer), run(true, optimizer));
        let most = match optimizer {
            Lion | Muon => {
                let drift = |seed| {
                    let (moved, _): (_, Vec<u32>) = run_of(false, optimizer, perturbed(seed));
                    largest_difference(&exact, &moved)
                };
                60f64.sqrt() * (1..=4).map(drift).fold(0.0, f64::max)
            }
            _ => 0.03,
        };
        let found = largest_difference(&exact, &rounded);
        assert!(found < most, "{optimizer:?}: {found}, at most {most}");
        assert_eq!(run(true, optimizer).1, first, "{optimizer:?}: again");
    }
}

#[test]
fn one_by_eight_is_eight_by_one() {
    let run = |batch, accumulation| {
        let dir = tempfile::tempdir().unwrap();
        let mut decoder = tiny::decoder();
        let mut run = LoopTest::new(dir.path());
        run.hyper.per_device_train_batch_size = batch;
        run.hyper.gradient_accumulation_steps = accumulation;
        let (finished, rows, _) = run.go(&mut decoder);
        finished.unwrap();
        rows
    };
    let (whole, parts) = (run(8, 1), run(1, 8));
    assert_eq!(whole.len(), parts.len());
    for (a, b) in whole.iter().zip(&parts) {
        for key in ["loss", "grad_norm"] {
            let (a, b) = (a[key].as_f64().unwrap(), b[key].as_f64().unwrap());
            assert!((a - b).abs() < 1e-5 * a.abs(), "{key}: {a} and {b}");
        }
        assert_eq!(a["tokens"], b["tokens"]);
    }
}

#[test]
fn evaluation_keeps_the_best_and_stops_early() {
    let dir = tempfile::tempdir().unwrap();
    let mut decoder = tiny::decoder();
    let mut run = LoopTest::new(dir.path());
    // Held-out tokens that training never shows: their loss falls at first, then rises.
    run.eval = vec![tiny::example(vec![1, 9, 4, 22, 7, 3], vec![1.0; 6], 1)];
    run.hyper.eval_steps = 2;
    run.hyper.num_train_epochs = 60;
    run.hyper.early_stopping_patience = Some(3);
    let (finished, rows, events) = run.go(&mut decoder);
    let finished = finished.unwrap();
    assert_eq!(finished.outcome, Outcome::StoppedEarly);
    let losses: Vec<f64> = rows.iter().filter_map(|row| row.get("eval_loss")?.as_f64()).collect();
    let best = losses.iter().copied().fold(f64::INFINITY, f64::min);
    assert_eq!(finished.best.unwrap().metric, best);
    assert_eq!(losses.len(), losses.iter().position(|&loss| loss == best).unwrap() + 1 + 3);
    let perplexity = rows.iter().find_map(|row| row.get("eval_perplexity")?.as_f64()).unwrap();
    assert_eq!(perplexity, losses[0].exp());
    // `best/` holds the weights of that evaluation: evaluating them again gives that loss.
    let mut saved = parlor_model::Workspace::default();
    let eval = tiny::sequences(vec![tiny::example(vec![1, 9, 4, 22, 7, 3], vec![1.0; 6], 1)]);
    let again = parlor_train::evaluate_examples(
        &parlor_train::objectives::CrossEntropy,
        &tiny::load_model(&dir.path().join("best")),
        &eval,
        8,
        &mut saved,
        &std::sync::atomic::AtomicBool::new(false),
        &parlor_train::distributed::Alone,
    );
    assert_eq!(again.unwrap().unwrap().loss, best);
    assert!(
        events.iter().any(|event| matches!(event, TrainEvent::Saved { step, .. } if *step == finished.steps))
    );
}

#[test]
fn a_loss_that_is_not_a_number_stops_the_run_and_names_the_rows() {
    let dir = tempfile::tempdir().unwrap();
    let mut decoder = tiny::decoder();
    let mut run = LoopTest::new(dir.path());
    run.hyper.save_steps = 1;
    run.hyper.learning_rate = 1e30;
    run.hyper.max_grad_norm = 0.0;
    run.hyper.warmup_steps = 3; // the first step changes nothing, the next ones break everything
    let (result, rows, _) = run.go(&mut decoder);
    let Err(TrainError::NonFinite(error)) = result else { panic!("{result:?}") };
    assert_eq!(error.step as usize, rows.len() + 1);
    assert!(!error.value.is_finite());
    assert!(!error.rows.is_empty() && error.rows.iter().all(|row| row.starts_with("train.jsonl:")));
    assert_eq!(error.gradient_norms.len(), 4, "{:?}", error.gradient_norms);
    let last = error.last_checkpoint.clone().unwrap();
    assert!(parlor_train::checkpoint::open_checkpoint(&last).is_ok());
    assert_eq!(last, dir.path().join(format!("checkpoint-{}", error.step - 1)));
    let message = error.to_string();
    assert!(message.contains("train.jsonl:") && message.contains("layers.0"), "{message}");
}

#[test]
fn an_example_that_the_model_cannot_run_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = LoopTest::new(dir.path());
    run.train = vec![tiny::example(vec![1, 999], vec![0.0, 1.0], 3)];
    let (result, _, _) = run.go(&mut tiny::decoder());
    let message = result.unwrap_err().to_string();
    assert!(message.contains("train.jsonl:3"), "{message}");
}
