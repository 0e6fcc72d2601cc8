//! Checkpoints: which are kept, what they hold, and that damage is seen.

use std::fs;
use std::path::Path;

use parlor_train::checkpoint::{list_checkpoints, newest_checkpoint, open_checkpoint, remove_temporaries};
use serde_json::Value;

use crate::tiny::{self, LoopTest};

fn names(directory: &Path) -> Vec<u64> {
    list_checkpoints(directory).into_iter().map(|(step, _)| step).collect()
}

fn trained(save_steps: u64, limit: Option<usize>) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut run = LoopTest::new(dir.path());
    run.hyper.save_steps = save_steps;
    run.hyper.save_total_limit = limit;
    run.go(&mut tiny::decoder()).0.unwrap();
    dir
}

#[test]
fn the_last_ones_and_the_best_are_kept() {
    assert_eq!(names(trained(1, Some(2)).path()), [9, 10]);
    assert_eq!(names(trained(4, None).path()), [4, 8, 10]);
    assert_eq!(names(trained(0, None).path()), [10]);

    let dir = tempfile::tempdir().unwrap();
    let mut run = LoopTest::new(dir.path());
    run.eval = vec![tiny::example(vec![1, 9, 4, 22, 7, 3], vec![1.0; 6], 1)];
    run.hyper.num_train_epochs = 12;
    run.hyper.eval_steps = 1;
    run.hyper.save_steps = 1;
    run.hyper.save_total_limit = Some(2);
    let best = run.go(&mut tiny::decoder()).0.unwrap().best.unwrap().step;
    assert!(best < 59, "the evaluation loss never rose, so this test tests nothing");
    assert_eq!(names(dir.path()), [best, 59, 60]);
}

#[test]
fn the_trainer_state_has_the_fields_of_hf_and_no_other() {
    let dir = trained(0, None);
    let text = fs::read(dir.path().join("checkpoint-10/trainer_state.json")).unwrap();
    let state: Value = serde_json::from_slice(&text).unwrap();
    let keys: Vec<&String> = state.as_object().unwrap().keys().collect();
    insta::assert_snapshot!(keys.iter().map(|key| key.as_str()).collect::<Vec<_>>().join(" "));
    let callbacks = serde_json::to_string_pretty(&state["stateful_callbacks"]).unwrap();
    insta::assert_snapshot!(callbacks);
    assert_eq!((state["global_step"].as_u64(), state["epoch"].as_f64()), (Some(10), Some(2.0)));
    assert_eq!(state["log_history"].as_array().unwrap().len(), 10);
}

#[test]
fn damage_is_seen_and_the_checkpoint_before_is_used() {
    type Damage = (&'static str, fn(&Path));
    let damage: [Damage; 5] = [
        ("model.safetensors", |path| {
            let mut bytes = fs::read(path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(path, bytes).unwrap();
        }),
        ("optimizer.safetensors", |path| {
            let file = fs::File::options().write(true).open(path).unwrap();
            file.set_len(100).unwrap();
        }),
        ("trainer_state.json", |path| fs::remove_file(path).unwrap()),
        ("parlor_state.json", |path| fs::remove_file(path).unwrap()),
        ("parlor_state.json", |path| {
            let text = fs::read_to_string(path).unwrap();
            fs::write(path, text.replace("\"step\": 10", "\"step\": 11")).unwrap();
        }),
    ];
    for (file, break_it) in damage {
        let dir = trained(5, None);
        break_it(&dir.path().join("checkpoint-10").join(file));
        let newest = newest_checkpoint(dir.path());
        assert_eq!(newest.checkpoint.unwrap().state.step, 5);
        assert_eq!(newest.damaged.len(), 1);
        assert_eq!(newest.damaged[0].file, file);
        assert!(open_checkpoint(&dir.path().join("checkpoint-10")).is_err());
    }
}

#[test]
fn what_a_killed_run_left_behind_is_removed() {
    let dir = trained(5, None);
    let left = dir.path().join(".tmp-checkpoint-7-123");
    fs::create_dir(&left).unwrap();
    fs::write(left.join("model.safetensors"), b"half").unwrap();
    assert_eq!(remove_temporaries(dir.path()), [".tmp-checkpoint-7-123"]);
    assert_eq!(names(dir.path()), [5, 10]);
    assert!(!left.exists());
}
