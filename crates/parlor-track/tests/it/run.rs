//! A run from start to end, in all places at once.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use parlor_track::{REDACTED, Row, Run, RunRecord, RunStatus, TrackError, Tracker};

use crate::setting::{Place, RUN_ID, files, row, warnings};

#[test]
fn run_json_at_the_start_and_at_the_end() {
    let place = Place::new();
    let mut run = Run::start(&place.config(), place.start(None)).unwrap();
    insta::assert_snapshot!("run_started", place.text(&place.out().join("run.json")));
    run.log(&row(1)).unwrap();
    run.sync().unwrap();
    run.finish(RunStatus::Finished, None).unwrap();
    insta::assert_snapshot!("run_finished", place.text(&place.out().join("run.json")));
    assert_eq!(files(&place.out()), ["loss.svg", "metrics.jsonl", "run.json"]);
}

#[test]
fn ends_are_told_apart() {
    let check = |status, given, exit_status| {
        let place = Place::new();
        let run = Run::start(&place.config(), place.start(None)).unwrap();
        run.finish(status, given).unwrap();
        let record = RunRecord::read(&place.out()).unwrap().unwrap();
        assert_eq!((record.status, record.exit_status), (status, exit_status));
        assert!(record.ended_at.is_some());
    };
    check(RunStatus::Finished, None, Some(0));
    check(RunStatus::Failed, None, Some(1));
    check(RunStatus::Failed, Some(2), Some(2));
    check(RunStatus::Interrupted, None, Some(130));
}

#[test]
fn a_dropped_run_failed() {
    let place = Place::new();
    drop(Run::start(&place.config(), place.start(None)).unwrap());
    let record = RunRecord::read(&place.out()).unwrap().unwrap();
    assert_eq!((record.status, record.exit_status), (RunStatus::Failed, Some(1)));
}

#[test]
fn a_resumed_run_is_the_same_run() {
    let place = Place::new();
    let mut run = Run::start(&place.config(), place.start(None)).unwrap();
    (1..=5).for_each(|step| run.log(&row(step)).unwrap());
    // As a kill leaves it: nothing more is written.
    std::mem::forget(run);
    let started = RunRecord::read(&place.out()).unwrap().unwrap();
    assert_eq!(started.status, RunStatus::Running);

    let mut start = place.start(Some(3));
    start.run_id = None;
    let mut run = Run::start(&place.config(), start).unwrap();
    (4..=6).for_each(|step| run.log(&row(step)).unwrap());
    run.finish(RunStatus::Finished, None).unwrap();
    let record = RunRecord::read(&place.out()).unwrap().unwrap();
    assert_eq!(record.run_id, RUN_ID);
    assert_eq!(record.started_at, started.started_at);
    assert_eq!(record.trackers, started.trackers);
    assert_eq!(record.resumed.iter().map(|resumed| resumed.step).collect::<Vec<_>>(), [3]);
    let steps = |text: String| {
        text.lines().map(|line| line.split(' ').nth(2).unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(steps(place.text(&place.mlflow_run().join("metrics/loss"))), ["1", "2", "3", "4", "5", "6"]);
    let rows = parlor_track::read_rows(&place.out().join("metrics.jsonl")).unwrap();
    assert_eq!(rows.iter().map(|row| row.step).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn a_damaged_run_json_does_not_stop_a_resumed_run() {
    let place = Place::new();
    drop(Run::start(&place.config(), place.start(None)).unwrap());
    fs::write(place.out().join("run.json"), "{").unwrap();
    let found = warnings(|| {
        let mut start = place.start(Some(0));
        start.run_id = None;
        let run = Run::start(&place.config(), start).unwrap();
        assert_ne!(run.record().run_id, RUN_ID);
        run.finish(RunStatus::Finished, None).unwrap();
    });
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].contains("run.json") && found[0].ends_with("the resumed run gets a new id"),
        "{found:?}"
    );
}

#[test]
fn nothing_starts_with_what_this_build_has_not() {
    let place = Place::new();
    let mut config = place.config();
    config.wandb.enabled = true;
    config.mlflow.tracking_uri = "http://localhost".to_owned();
    let error = Run::start(&config, place.start(None)).unwrap_err();
    assert!(matches!(&error, TrackError::Unsupported(keys) if keys.len() == 2), "{error}");
    assert!(!place.out().exists() && !place.store().exists());
}

#[test]
fn mlflow_can_be_off() {
    let place = Place::new();
    let mut config = place.config();
    config.mlflow.enabled = false;
    Run::start(&config, place.start(None)).unwrap().finish(RunStatus::Finished, None).unwrap();
    assert!(!place.store().exists());
}

#[test]
fn secrets_are_no_parameters() {
    let place = Place::new();
    let mut start = place.start(None);
    start.info.params.insert("monitoring.wandb.api_key".to_owned(), REDACTED.into());
    let run = Run::start(&place.config(), start).unwrap();
    run.finish(RunStatus::Finished, None).unwrap();
    assert!(!place.text(&place.out().join("run.json")).contains(REDACTED));
    assert!(!place.mlflow_run().join("params/monitoring.wandb.api_key").exists());
}

/// Fails at everything, and counts.
struct Failing(Arc<Mutex<usize>>);

impl Failing {
    fn fail(&self) -> Result<(), TrackError> {
        *self.0.lock().unwrap() += 1;
        Err(TrackError::Row("no".to_owned()))
    }
}

impl Tracker for Failing {
    fn name(&self) -> &'static str {
        "failing"
    }

    fn log(&mut self, _: &Row) -> Result<(), TrackError> {
        self.fail()
    }

    fn artifact(&mut self, _: &Path) -> Result<(), TrackError> {
        self.fail()
    }

    fn finish(&mut self, _: RunStatus) -> Result<(), TrackError> {
        self.fail()
    }
}

#[test]
fn a_failing_tracker_is_reported_once_per_kind_and_stops_nothing() {
    let place = Place::new();
    let tried = Arc::new(Mutex::new(0));
    let found = warnings(|| {
        let mut run = Run::start(&place.config(), place.start(None)).unwrap();
        run.add_tracker(Box::new(Failing(tried.clone())));
        (1..=5).for_each(|step| run.log(&row(step)).unwrap());
        run.finish(RunStatus::Finished, None).unwrap();
    });
    insta::assert_snapshot!(found.join("\n"), @"
    WARN failing: log: a row of metrics cannot be recorded: no (training goes on; further ones are not shown)
    WARN failing: artifact: a row of metrics cannot be recorded: no (training goes on; further ones are not shown)
    WARN failing: finish: a row of metrics cannot be recorded: no (training goes on; further ones are not shown)
    ");
    assert_eq!(*tried.lock().unwrap(), 5 + 2 + 1);
}
