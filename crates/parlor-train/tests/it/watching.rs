//! Runs that are watched: a loss that is too high, and a checkpoint that someone asks for.

use parlor_train::checkpoint::{list_checkpoints, newest_checkpoint};
use parlor_train::{Outcome, TrainError};

use crate::tiny::{self, LoopTest, bits};

#[test]
fn a_loss_that_stays_high_stops_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = LoopTest::new(dir.path());
    // The first losses are near ln 29 = 3.37.
    run.training.loss_watchdog_threshold = Some(2.0);
    run.training.loss_watchdog_patience = 4;
    run.hyper.save_steps = 1;
    run.hyper.learning_rate = 1e-6;
    let (result, rows, _) = run.go(&mut tiny::decoder());
    let error = result.unwrap_err();
    assert!(!error.before_start());
    let TrainError::HighLoss { step, loss, steps, .. } = &error else { panic!("{error:?}") };
    assert_eq!((*step, *steps, rows.len()), (4, 4, 4));
    assert_eq!(Some(*loss), rows[3]["loss"].as_f64());
    // The step that was too much is not saved.
    assert_eq!(list_checkpoints(dir.path()).last().unwrap().0, 3);
    let place = dir.path().display().to_string();
    insta::assert_snapshot!(error.to_string().replace(&place, "OUT").replace(&format!("{loss:.4}"), "LOSS"));
}

#[test]
fn a_loss_that_falls_in_time_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = LoopTest::new(dir.path());
    run.hyper.num_train_epochs = 6;
    let (_, rows, _) = run.go(&mut tiny::decoder());
    let losses: Vec<f64> = rows.iter().filter_map(|row| row["loss"].as_f64()).collect();
    // As many in a row as are above it, and one more.
    let threshold = losses[10];
    let mut longest = 0;
    losses.iter().fold(0, |run, &loss| {
        let run = if loss > threshold { run + 1 } else { 0 };
        longest = longest.max(run);
        run
    });
    let watched = |patience| {
        let dir = tempfile::tempdir().unwrap();
        let mut run = LoopTest::new(dir.path());
        run.hyper.num_train_epochs = 6;
        run.training.loss_watchdog_threshold = Some(threshold);
        run.training.loss_watchdog_patience = patience;
        run.go(&mut tiny::decoder()).0
    };
    assert_eq!(watched(longest + 1).unwrap().outcome, Outcome::Completed);
    assert!(watched(longest).is_err());
}

#[test]
fn the_count_of_high_losses_survives_an_interruption() {
    let dir = tempfile::tempdir().unwrap();
    let make = || {
        let mut run = LoopTest::new(dir.path());
        run.training.loss_watchdog_threshold = Some(2.0);
        run.training.loss_watchdog_patience = 4;
        run.hyper.learning_rate = 1e-6;
        run
    };
    let mut first = make();
    first.stop_after = Some(3);
    first.go(&mut tiny::decoder()).0.unwrap();
    let checkpoint = newest_checkpoint(dir.path()).checkpoint.unwrap();
    assert_eq!(checkpoint.state.high_losses, 3);
    let mut second = make();
    let mut decoder = tiny::load_model(&checkpoint.path);
    second.resume = Some(checkpoint);
    let error = second.go(&mut decoder).0.unwrap_err();
    assert!(matches!(error, TrainError::HighLoss { step: 4, .. }), "{error:?}");
}

#[test]
fn a_checkpoint_is_written_when_asked_for_and_the_run_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut whole = tiny::decoder();
    LoopTest::new(dir.path()).go(&mut whole).0.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut run = LoopTest::new(dir.path());
    run.save_after = Some(4);
    let mut decoder = tiny::decoder();
    assert_eq!(run.go(&mut decoder).0.unwrap().outcome, Outcome::Completed);
    assert_eq!(bits(&decoder), bits(&whole));
    let steps: Vec<u64> = list_checkpoints(dir.path()).into_iter().map(|(step, _)| step).collect();
    assert_eq!(steps, [4, 10]);
    // The checkpoint can be resumed.
    let checkpoint = parlor_train::checkpoint::open_checkpoint(&dir.path().join("checkpoint-4")).unwrap();
    let mut resumed = tiny::load_model(&checkpoint.path);
    let mut rest = LoopTest::new(dir.path());
    rest.resume = Some(checkpoint);
    rest.go(&mut resumed).0.unwrap();
    assert_eq!(bits(&resumed), bits(&whole));
}
