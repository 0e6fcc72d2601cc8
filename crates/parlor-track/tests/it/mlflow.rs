//! MLflow's file store, byte by byte. `tests/readers/mlflow_read.py` reads one with MLflow itself.

use std::fs;

use parlor_track::{MlflowFileStore, Row, Run, RunInfo, RunStatus, Tracker};
use proptest::prelude::*;

use crate::setting::{Place, RUN_ID, files, info, row, ticking_clock, warnings};

fn create(place: &Place, info: &RunInfo) -> MlflowFileStore {
    MlflowFileStore::create(&place.config().mlflow, RUN_ID, "a run", info, ticking_clock()).unwrap()
}

#[test]
fn a_whole_store() {
    let place = Place::new();
    let mut run = Run::start(&place.config(), place.start(None)).unwrap();
    run.log(&row(1)).unwrap();
    run.log(&row(2)).unwrap();
    run.log(&Row::new(2).with("eval_loss", f64::NAN).with("rewards/chosen", f64::NEG_INFINITY)).unwrap();
    run.finish(RunStatus::Interrupted, None).unwrap();
    let mut dump = String::new();
    for path in files(&place.store()) {
        // What they hold is the local files'.
        if !path.contains("/artifacts/") {
            dump += &format!("== {path}\n{}\n", place.text(&place.store().join(&path)).trim_end());
        } else {
            dump += &format!("== {path}\n");
        }
    }
    insta::assert_snapshot!("store", dump);
    assert!(place.store().join(".trash").is_dir());
}

#[test]
fn an_experiment_is_found_by_its_name() {
    let place = Place::new();
    let first = create(&place, &info());
    let id = first.run().experiment_id.clone();
    assert_eq!(id.len(), 18);
    // As MLflow writes it: other order, other quoting, other fields.
    let other = place.store().join("314029612955836725");
    fs::create_dir(&other).unwrap();
    let meta = "artifact_location: /x\ncreation_time: 1\nexperiment_id: '314029612955836725'\nlifecycle_stage: active\nname: 'other: it''s'\nworkspace: default\n";
    fs::write(other.join("meta.yaml"), meta).unwrap();
    let mut config = place.config().mlflow;
    let again = |config: &parlor_track::MlflowConfig, run_id: &str| {
        MlflowFileStore::create(config, run_id, "r", &info(), ticking_clock())
    };
    assert_eq!(again(&config, "1".repeat(32).as_str()).unwrap().run().experiment_id, id);
    config.experiment_name = "other: it's".to_owned();
    assert_eq!(again(&config, "2".repeat(32).as_str()).unwrap().run().experiment_id, "314029612955836725");
    config.experiment_name = "Default".to_owned();
    assert_eq!(again(&config, "3".repeat(32).as_str()).unwrap().run().experiment_id, "0");

    fs::rename(&other, place.store().join(".trash/314029612955836725")).unwrap();
    config.experiment_name = "other: it's".to_owned();
    let error = again(&config, "4".repeat(32).as_str()).unwrap_err().to_string();
    assert!(
        error.starts_with("monitoring.mlflow.experiment_name: the experiment `other: it's` was deleted"),
        "{error}"
    );
}

#[test]
fn keys_that_break_the_rules_are_changed_and_said() {
    let place = Place::new();
    let mut store = create(&place, &RunInfo::default());
    let log = |store: &mut MlflowFileStore, keys: &[&str]| {
        warnings(|| {
            for _ in 0..2 {
                for key in keys {
                    store.log(&Row::new(1).with(key, 1.0)).unwrap();
                }
            }
        })
    };
    let kept = ["loss", "eval/loss", "a b-c_d.e:f"];
    assert!(log(&mut store, &kept).is_empty());
    let long = "k".repeat(300);
    let changed =
        ["x?", "x*", "../up", "/abs", "a//b", "./c", "loss/of", "eval", "größe", "", "..", long.as_str()];
    let warned = log(&mut store, &changed);
    // Once per key, not once per row.
    assert_eq!(warned.len(), changed.len(), "{warned:#?}");
    insta::assert_snapshot!(files(&place.mlflow_run().join("metrics")).join("\n").replace(&"k".repeat(250), "k*250"), @"
    _
    __-2
    __/up
    a b-c_d.e:f
    a/b
    abs
    c
    eval-2
    eval/loss
    gr__e
    k*250
    loss
    loss_of-2
    x_
    x_-2
    ");
    for path in files(&place.mlflow_run().join("metrics")) {
        let text = fs::read_to_string(place.mlflow_run().join("metrics").join(path)).unwrap();
        assert_eq!(text.lines().count(), 2, "two keys share a file");
    }
}

#[test]
fn long_values_are_cut() {
    let place = Place::new();
    let mut info = info();
    info.params.insert("long".to_owned(), "ü".repeat(6001).into());
    info.params.insert("just".to_owned(), "ü".repeat(6000).into());
    info.command = Some("c".repeat(8001));
    let warned = warnings(|| drop(create(&place, &info)));
    assert_eq!(warned.len(), 2, "{warned:?}");
    let length = |path: &str| place.text(&place.mlflow_run().join(path)).chars().count();
    assert_eq!(length("params/long"), 6000);
    assert_eq!(length("params/just"), 6000);
    assert_eq!(length("tags/mlflow.source.name"), 8000);
}

#[test]
fn resuming_takes_out_later_points_and_goes_on() {
    let place = Place::new();
    let mut store = create(&place, &info());
    (1..=4).for_each(|step| store.log(&row(step)).unwrap());
    store.log(&Row::new(4).with("eval_loss", 1.0)).unwrap();
    store.finish(RunStatus::Failed).unwrap();
    let loss = place.mlflow_run().join("metrics/loss");
    // Half a line, as a kill may leave.
    fs::write(&loss, format!("{}18000000", place.text(&loss))).unwrap();

    let mut later = info();
    later.params.insert("training.lora.r".to_owned(), 8.into());
    later.params.insert("new".to_owned(), true.into());
    let run = store.run().clone();
    let mut resumed = None;
    let warned =
        warnings(|| resumed = Some(MlflowFileStore::resume(run, &later, 2, ticking_clock()).unwrap()));
    assert_eq!(warned, ["WARN MLflow keeps the first value of the parameter `training.lora.r`; now it is 8"]);
    let mut store = resumed.unwrap();
    let meta = place.text(&place.mlflow_run().join("meta.yaml"));
    assert!(meta.contains("status: 1\n") && meta.contains("end_time: null\n"), "{meta}");
    store.log(&row(3)).unwrap();
    let steps: Vec<String> =
        place.text(&loss).lines().map(|line| line.split(' ').next_back().unwrap().to_owned()).collect();
    assert_eq!(steps, ["1", "2", "3"]);
    // An empty file would be a broken one.
    assert!(!place.mlflow_run().join("metrics/eval_loss").exists());
    assert_eq!(place.text(&place.mlflow_run().join("params/new")), "true");
    assert_eq!(place.text(&place.mlflow_run().join("params/training.lora.r")), "16");
}

#[test]
fn a_run_that_is_gone_is_started_anew() {
    let place = Place::new();
    drop(Run::start(&place.config(), place.start(None)).unwrap());
    fs::remove_dir_all(place.store()).unwrap();
    let warned = warnings(|| {
        let mut run = Run::start(&place.config(), place.start(Some(1))).unwrap();
        run.log(&row(2)).unwrap();
        run.finish(RunStatus::Finished, None).unwrap();
    });
    assert_eq!(warned.len(), 1, "{warned:?}");
    assert!(warned[0].contains("it is started anew there"), "{warned:?}");
    assert!(place.mlflow_run().join("metrics/loss").is_file());
}

#[test]
fn large_files_and_directories_are_no_artifacts() {
    let place = Place::new();
    let mut store = create(&place, &info());
    let big = place.dir.path().join("model.safetensors");
    fs::File::create(&big).unwrap().set_len(17 << 20).unwrap();
    let error = store.artifact(&big).unwrap_err().to_string();
    assert!(error.ends_with("17825792 bytes; files over 16 MiB are not copied to MLflow"), "{error}");
    let error = store.artifact(place.dir.path()).unwrap_err().to_string();
    assert!(error.ends_with("only files are copied to MLflow"), "{error}");
    assert!(files(&place.mlflow_run().join("artifacts")).is_empty());
}

#[test]
fn ids_are_no_paths() {
    let place = Place::new();
    for id in ["../../x", "", "a/b", ".trash"] {
        let error =
            MlflowFileStore::create(&place.config().mlflow, id, "r", &info(), ticking_clock()).unwrap_err();
        assert!(error.to_string().contains("is not letters"), "{error}");
    }
}

/// MLflow's own rule: `posixpath.normpath(name) == name`, allowed characters, no more than 250.
fn allowed(key: &str) -> bool {
    let parts: Vec<&str> = key.split('/').collect();
    key.len() <= 250
        && key.chars().all(|c| c.is_ascii_alphanumeric() || "_-. /:".contains(c))
        && parts.iter().all(|part| !part.is_empty() && *part != "." && *part != "..")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_keys_and_values_make_a_store_by_the_rules(
        keys in proptest::collection::btree_set(prop_oneof!["[a./ ]{0,6}", ".{0,20}", "[a-c/]{0,260}"], 1..8),
        value in ".{0,40}",
        number in proptest::num::f64::ANY,
        name in ".{0,20}",
    ) {
        let place = Place::new();
        let mut info = RunInfo { user: Some(name.clone()), ..RunInfo::default() };
        for key in &keys {
            info.params.insert(key.clone(), value.clone().into());
        }
        let mut config = place.config().mlflow;
        config.experiment_name = format!("x{name}");
        let mut store = MlflowFileStore::create(&config, RUN_ID, &name, &info, ticking_clock()).unwrap();
        for key in &keys {
            store.log(&Row::new(7).with(key, number)).unwrap();
        }
        let run = place.mlflow_run();
        for kind in ["metrics", "params"] {
            let found = files(&run.join(kind));
            prop_assert_eq!(found.len(), keys.len(), "{:?} became {:?}", &keys, &found);
            prop_assert!(found.iter().all(|key| allowed(key)), "{:?}", &found);
        }
        for path in files(&run.join("params")) {
            prop_assert_eq!(&fs::read_to_string(run.join("params").join(path)).unwrap(), &value);
        }
        for path in files(&run.join("metrics")) {
            let line = fs::read_to_string(run.join("metrics").join(path)).unwrap();
            let fields: Vec<&str> = line.trim_end().split(' ').collect();
            prop_assert_eq!((fields.len(), fields[2]), (3, "7"));
            let read: f64 = fields[1].parse().unwrap();
            prop_assert!(read == number || read.is_nan() && number.is_nan());
        }
        // The same names are found again.
        let resumed = MlflowFileStore::resume(store.run().clone(), &info, 7, ticking_clock()).unwrap();
        prop_assert_eq!(resumed.run(), store.run());
        let again = MlflowFileStore::create(&config, &"f".repeat(32), "r", &RunInfo::default(), ticking_clock()).unwrap();
        prop_assert_eq!(&again.run().experiment_id, &store.run().experiment_id);
    }
}
