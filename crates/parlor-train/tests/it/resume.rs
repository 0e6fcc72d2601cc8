//! A run that was interrupted after any step and resumed ends bit-identical to one that was not.

use std::path::Path;

use parlor_kernels::DType;
use parlor_model::{Decoder, DecoderConfig};
use parlor_train::Outcome;
use parlor_train::checkpoint::{newest_checkpoint, open_checkpoint};
use parlor_train::config::OptimizerName;

use crate::tiny::{self, LoopTest, Rows, bits};

const STEPS: u64 = 10;

fn run(directory: &Path) -> LoopTest<'_> {
    let mut run = LoopTest::new(directory);
    run.eval = tiny::examples(3);
    run.hyper.eval_steps = 3;
    run.hyper.warmup_steps = 2;
    run.training.neftune_noise_alpha = Some(5.0);
    run
}

/// Rows without what the clock and the machine decide.
fn timeless(mut rows: Rows) -> Rows {
    for row in &mut rows {
        for key in ["tokens_per_second", "memory_bytes", "eval_runtime"] {
            row.remove(key);
        }
    }
    rows
}

#[test]
fn resumed_after_every_step_equals_uninterrupted() {
    let dir = tempfile::tempdir().unwrap();
    let mut decoder = tiny::decoder();
    let (finished, rows, _) = run(dir.path()).go(&mut decoder);
    let finished = finished.unwrap();
    let (expected, rows) = (bits(&decoder), timeless(rows));
    assert_eq!(finished.steps, STEPS);
    for stop in 1..STEPS {
        let dir = tempfile::tempdir().unwrap();
        let mut first = run(dir.path());
        first.stop_after = Some(stop);
        let (interrupted, mut seen, _) = first.go(&mut tiny::decoder());
        assert_eq!(interrupted.unwrap().outcome, Outcome::Interrupted);

        let checkpoint = newest_checkpoint(dir.path()).checkpoint.unwrap();
        assert_eq!(checkpoint.state.step, stop);
        let mut decoder = tiny::load_model(&checkpoint.path);
        let mut second = run(dir.path());
        second.resume = Some(checkpoint);
        let (resumed, rest, _) = second.go(&mut decoder);
        let resumed = resumed.unwrap();
        assert!(bits(&decoder) == expected, "weights differ after a stop at step {stop}");
        seen.extend(rest);
        assert_eq!(timeless(seen), rows, "metrics differ after a stop at step {stop}");
        assert_eq!(resumed.train_loss.to_bits(), finished.train_loss.to_bits());
        assert_eq!((resumed.best, resumed.eval_loss), (finished.best, finished.eval_loss));
    }
}

#[test]
fn resumed_under_every_optimizer_equals_uninterrupted() {
    use OptimizerName::{Adafactor, Adamw8bit, Lion, Muon, Sgd};
    // Wide enough that most matrices have 8-bit moments.
    let decoder = || {
        let config = DecoderConfig { vocab_size: 300, intermediate_size: 300, ..tiny::config() };
        Decoder::initialise(config, 7).unwrap()
    };
    for optimizer in [Adamw8bit, Adafactor, Lion, Muon, Sgd] {
        let run = |directory| {
            let mut run = run(directory);
            run.training.optimizer = optimizer;
            if optimizer == Sgd {
                run.training.optim_args.momentum = Some(0.9);
            }
            run
        };
        let dir = tempfile::tempdir().unwrap();
        let mut whole = decoder();
        run(dir.path()).go(&mut whole).0.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let mut first = run(dir.path());
        first.stop_after = Some(4);
        first.go(&mut decoder()).0.unwrap();
        let checkpoint = newest_checkpoint(dir.path()).checkpoint.unwrap();
        let mut resumed = decoder();
        tiny::load_into(&mut resumed, &checkpoint.path);
        let mut second = run(dir.path());
        second.resume = Some(checkpoint);
        second.go(&mut resumed).0.unwrap();
        assert!(bits(&resumed) == bits(&whole), "{optimizer:?}");
        assert!(bits(&whole) != bits(&decoder()), "{optimizer:?}");
    }
}

#[test]
fn resumed_in_bf16_equals_uninterrupted() {
    let run = |directory| {
        let mut run = run(directory);
        run.training.bf16 = true;
        run
    };
    let dir = tempfile::tempdir().unwrap();
    let mut whole = tiny::decoder();
    run(dir.path()).go(&mut whole).0.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut first = run(dir.path());
    first.stop_after = Some(4);
    first.go(&mut tiny::decoder()).0.unwrap();
    let checkpoint = newest_checkpoint(dir.path()).checkpoint.unwrap();
    let mut resumed = tiny::load_model(&checkpoint.path);
    let mut second = run(dir.path());
    second.resume = Some(checkpoint);
    second.go(&mut resumed).0.unwrap();
    assert!(bits(&resumed) == bits(&whole));
}

#[test]
fn resumed_with_weights_of_bf16_equals_uninterrupted() {
    let decoder = || tiny::decoder().into_owned(DType::Bf16);
    let bits = |decoder: &Decoder| -> Vec<u32> {
        decoder.parameters().iter().flat_map(|p| p.tensor.to_f32_vec()).map(f32::to_bits).collect()
    };
    for optimizer in [OptimizerName::AdamwTorch, OptimizerName::Adamw8bit] {
        let run = |directory| {
            let mut run = run(directory);
            run.training.pure_bf16 = true;
            run.training.optimizer = optimizer;
            run
        };
        let dir = tempfile::tempdir().unwrap();
        let mut whole = decoder();
        run(dir.path()).go(&mut whole).0.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let mut first = run(dir.path());
        first.stop_after = Some(4);
        first.go(&mut decoder()).0.unwrap();
        let checkpoint = newest_checkpoint(dir.path()).checkpoint.unwrap();
        let mut resumed = decoder();
        tiny::load_into(&mut resumed, &checkpoint.path);
        let mut second = run(dir.path());
        second.resume = Some(checkpoint);
        second.go(&mut resumed).0.unwrap();
        assert!(bits(&resumed) == bits(&whole), "{optimizer:?}");
        assert!(bits(&whole) != bits(&decoder()), "{optimizer:?}");
    }
}

#[test]
fn resuming_a_finished_run_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut decoder = tiny::decoder();
    run(dir.path()).go(&mut decoder).0.unwrap();
    let expected = bits(&decoder);
    let mut again = run(dir.path());
    again.resume = Some(open_checkpoint(&dir.path().join("checkpoint-10")).unwrap());
    let (finished, rows, _) = again.go(&mut decoder);
    assert_eq!(finished.unwrap().outcome, Outcome::Completed);
    assert!(rows.is_empty());
    assert_eq!(bits(&decoder), expected);
}
