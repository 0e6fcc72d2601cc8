//! Directories that cannot be written or vanish, and full disks.

use std::fs;

use parlor_track::{LocalFiles, Run, RunRecord, RunStatus, TrackError};

use crate::setting::{Place, row, warnings};

#[test]
fn an_output_directory_that_cannot_be_made_is_an_error() {
    let place = Place::new();
    fs::write(place.out(), "a file").unwrap();
    let error = Run::start(&place.config(), place.start(None)).unwrap_err();
    assert!(matches!(&error, TrackError::Write { path, .. } if *path == place.out()), "{error}");
    assert!(!place.store().exists(), "MLflow has a run that never was");
}

#[test]
fn an_output_directory_that_vanishes_is_an_error() {
    let place = Place::new();
    let mut run = Run::start(&place.config(), place.start(None)).unwrap();
    run.log(&row(1)).unwrap();
    fs::remove_dir_all(place.out()).unwrap();
    let error = run.log(&row(2)).unwrap_err().to_string();
    assert!(
        error.ends_with("its directory is gone: was it removed or renamed while the run went on?"),
        "{error}"
    );
    assert!(run.sync().is_err());
    assert!(run.finish(RunStatus::Finished, None).is_err());
    // MLflow has it all the same.
    assert!(place.text(&place.mlflow_run().join("metrics/loss")).ends_with(" 2\n"));
    assert!(place.text(&place.mlflow_run().join("meta.yaml")).contains("status: 3\n"));
}

#[test]
fn a_store_that_cannot_be_made_is_a_warning() {
    let place = Place::new();
    fs::write(place.store(), "a file").unwrap();
    let warned = warnings(|| {
        let mut run = Run::start(&place.config(), place.start(None)).unwrap();
        run.log(&row(1)).unwrap();
        run.finish(RunStatus::Finished, None).unwrap();
    });
    assert_eq!(warned.len(), 1, "{warned:?}");
    assert!(warned[0].starts_with("WARN the run is not recorded in MLflow: cannot write"), "{warned:?}");
    let record = RunRecord::read(&place.out()).unwrap().unwrap();
    assert_eq!(record.status, RunStatus::Finished);
    assert!(record.trackers.is_empty());
}

#[test]
fn a_store_that_vanishes_is_a_warning_and_not_made_anew() {
    let place = Place::new();
    let warned = warnings(|| {
        let mut run = Run::start(&place.config(), place.start(None)).unwrap();
        run.log(&row(1)).unwrap();
        fs::remove_dir_all(place.store()).unwrap();
        for step in 2..9 {
            run.log(&row(step).with("rewards/chosen", 1.0)).unwrap();
        }
        run.finish(RunStatus::Finished, None).unwrap();
    });
    assert_eq!(warned.len(), 3, "log, artifact, finish: {warned:#?}");
    assert!(!place.store().exists());
    assert_eq!(parlor_track::read_rows(&place.out().join("metrics.jsonl")).unwrap().len(), 8);
}

#[cfg(target_os = "linux")]
mod full_disk {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn rows_that_do_not_fit_are_an_error() {
        let place = Place::new();
        let mut local = LocalFiles::create(&place.out(), "t").unwrap();
        let metrics = place.out().join("metrics.jsonl");
        fs::remove_file(&metrics).unwrap();
        symlink("/dev/full", &metrics).unwrap();
        let error = local.log(&row(1)).unwrap_err().to_string();
        assert!(error.contains("No space left on device"), "{error}");
        assert!(error.ends_with("free some space, or name a directory on another disk"), "{error}");
    }

    #[test]
    fn points_that_do_not_fit_are_a_warning() {
        let place = Place::new();
        let warned = warnings(|| {
            let mut run = Run::start(&place.config(), place.start(None)).unwrap();
            symlink("/dev/full", place.mlflow_run().join("metrics/loss")).unwrap();
            (1..5).for_each(|step| run.log(&row(step)).unwrap());
            run.finish(RunStatus::Finished, None).unwrap();
        });
        assert_eq!(warned.len(), 1, "{warned:?}");
        assert!(warned[0].contains("No space left on device"), "{warned:?}");
    }

    #[test]
    fn a_file_that_cannot_be_replaced_keeps_its_old_contents() {
        let place = Place::new();
        let mut local = LocalFiles::create(&place.out(), "t").unwrap();
        local.log(&row(1)).unwrap();
        local.plot().unwrap();
        // Nothing can be renamed over a directory that is not empty.
        let plot = place.out().join("loss.svg");
        fs::remove_file(&plot).unwrap();
        fs::create_dir_all(plot.join("x")).unwrap();
        let error = local.plot().unwrap_err();
        assert!(matches!(&error, TrackError::Write { path, .. } if *path == plot), "{error}");
        assert!(plot.join("x").is_dir());
        let left: Vec<_> =
            fs::read_dir(place.out()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left.len(), 2, "nothing temporary stays: {left:?}");
    }
}
