//! Changes at run time.

use serde_json::json;

use crate::sample::{Case, Sample, TrainingType};

#[test]
fn an_update_is_taken_or_changes_nothing() {
    let manager = Case::new().load();
    manager.update("training.seed", 7).unwrap();
    manager.update("model.name", "new").unwrap();
    manager.update("training.dropout", "5e-1").unwrap();
    manager.update("tracker", json!({"enabled": true})).unwrap();
    manager.update("model.max_length", serde_json::Value::Null).unwrap();
    let before = manager.get();
    assert_eq!((before.training.seed, before.training.dropout, before.tracker.enabled), (7, 0.5, true));
    for (key, value) in [
        ("training.seed", json!("x")),
        ("training.sed", json!(1)),
        ("data.batch_size", json!(0)),
        ("data.path", json!("")),
        ("", json!(1)),
        ("a..b", json!(1)),
        ("training", json!(5)),
        ("training.save_at", json!([1, "x"])),
    ] {
        let error = manager.update(key, value).unwrap_err();
        assert!(!error.problems.is_empty() && !error.to_string().is_empty());
        assert_eq!(manager.get(), before, "{key}");
    }
    let metrics = manager.metrics();
    assert_eq!((metrics.updates, metrics.rejected_updates, metrics.reloads), (5, 8, 0));
    assert!((metrics.error_rate() - 8.0 / 13.0).abs() < 1e-12);
    assert!(!manager.metrics().validation_time.is_zero());
    manager.validate();
    assert!(!manager.metrics().load_time.is_zero() && !manager.metrics().validation_time.is_zero());
}

#[test]
fn the_three_named_updates() {
    let manager = Case::with("training: {training_type: sft}\n").env("MODEL_NAME", "env").load();
    manager.update_model_name("7").unwrap();
    manager.update_training_type("preference").unwrap();
    manager.update_batch_size(16).unwrap();
    let config = manager.get();
    assert_eq!((config.model.name.as_str(), config.data.batch_size), ("7", 16));
    assert_eq!(config.training.training_type, TrainingType::Dpo);
    let error = manager.update_training_type("dppo").unwrap_err();
    insta::assert_snapshot!(error, @r#"
    `training.training_type`: `dppo` is not a value of this key
      help: did you mean `dpo`? It takes one of from_scratch, sft, dpo, preference
    "#);
    assert!(manager.update_batch_size(usize::MAX).is_err());
    assert!(manager.update_batch_size(0).is_err());
}

#[test]
fn a_later_update_of_a_section_wins() {
    let manager = Case::new().load();
    manager.update("training.seed", 1).unwrap();
    manager.update("training", json!({"seed": 2})).unwrap();
    assert_eq!(manager.get().training.seed, 2);
    manager.update("training.seed", 3).unwrap();
    assert_eq!(manager.get().training.seed, 3);
}

#[test]
fn an_update_does_not_read_the_files_again() {
    let case = Case::with("training: {seed: 1}\n");
    let manager = case.load();
    std::fs::write(case.path("config.yaml"), "training: {seed: half").unwrap();
    manager.update("model.name", "new").unwrap();
    assert_eq!((manager.get().training.seed, manager.get().model.name.as_str()), (1, "new"));
    assert!(manager.reload().is_err());
    assert_eq!(manager.get().training.seed, 1);
    std::fs::write(case.path("config.yaml"), "training: {seed: 2}\n").unwrap();
    manager.reload().unwrap();
    assert_eq!((manager.get().training.seed, manager.get().model.name.as_str()), (2, "new"));
    assert_eq!((manager.metrics().reloads, manager.metrics().rejected_reloads), (1, 1));
}

#[test]
fn subscribers_hear_of_every_change() {
    let manager = Case::new().load();
    let (first, second) = (manager.subscribe(), manager.subscribe());
    manager.clone().update("training.seed", 1).unwrap();
    drop(second);
    manager.update("training.seed", -1).unwrap_err();
    manager.update("training.seed", 2).unwrap();
    let seeds: Vec<u64> = first.try_iter().map(|config| config.training.seed).collect();
    assert_eq!(seeds, [1, 2]);
}

#[test]
fn updates_from_many_threads_are_all_kept() {
    let manager = Case::new().load();
    std::thread::scope(|scope| {
        for index in 0..4_u64 {
            let manager = &manager;
            scope.spawn(move || {
                for step in 0..5_u64 {
                    manager.update(&format!("custom.t{index}"), step).unwrap();
                    let _: std::sync::Arc<Sample> = manager.get();
                }
            });
        }
    });
    assert_eq!(json!(manager.get().custom), json!({"t0": 4, "t1": 4, "t2": 4, "t3": 4}));
    assert_eq!(manager.metrics().updates, 20);
}
