//! `metrics.jsonl` after interruptions; which files there are.

use std::fs;

use parlor_track::{LocalFiles, METRICS_FILE, Row, read_rows};
use proptest::prelude::*;

use crate::setting::{files, row, warnings};

#[test]
fn lines_are_appended_one_by_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut local = LocalFiles::create(dir.path(), "t").unwrap();
    local.log(&row(1)).unwrap();
    local.log(&Row::new(1).with("eval_loss", 2.5)).unwrap();
    insta::assert_snapshot!(fs::read_to_string(dir.path().join(METRICS_FILE)).unwrap(), @r#"
    {"step":1,"loss":4.0,"learning_rate":1e-7,"tokens":512}
    {"step":1,"eval_loss":2.5}
    "#);
    // An evaluation draws the plot; nothing temporary stays.
    assert_eq!(files(dir.path()), ["loss.svg", "metrics.jsonl"]);
}

#[test]
fn a_new_run_starts_an_empty_file() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(METRICS_FILE), "old\n").unwrap();
    LocalFiles::create(dir.path(), "t").unwrap();
    assert_eq!(fs::read(dir.path().join(METRICS_FILE)).unwrap(), b"");
}

#[test]
fn resuming_repairs_what_a_kill_left() {
    let check = |text: &str, step: u64, kept: &str, warned: usize| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(METRICS_FILE);
        fs::write(&path, text).unwrap();
        let warnings = warnings(|| {
            LocalFiles::resume(dir.path(), "t", step).unwrap();
        });
        assert_eq!(fs::read_to_string(&path).unwrap(), kept, "{text:?}");
        assert_eq!(warnings.len(), warned, "{warnings:?}");
    };
    let three = "{\"step\":1,\"loss\":3.0}\n{\"step\":2,\"loss\":2.0}\n{\"step\":3,\"loss\":1.0}\n";
    check(three, 2, "{\"step\":1,\"loss\":3.0}\n{\"step\":2,\"loss\":2.0}\n", 0);
    check(three, 9, three, 0);
    check(three, 0, "", 0);
    check("", 5, "", 0);
    check("{\"step\":1}\n{\"step\":2,\"lo", 5, "{\"step\":1}\n", 0);
    check("{\"step\":1}\n{\"step\":2}", 5, "{\"step\":1}\n{\"step\":2}\n", 0);
    check("{\"step\":1}\r\n\n{\"step\":2}\n", 5, "{\"step\":1}\n{\"step\":2}\n", 0);
    check("{\"step\":1}\nnonsense\n[1]\n{\"step\":2}\n", 5, "{\"step\":1}\n{\"step\":2}\n", 2);
}

#[test]
fn a_broken_line_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(METRICS_FILE);
    fs::write(&path, "{\"step\":1}\n{\"loss\":1}\n").unwrap();
    let error = read_rows(&path).unwrap_err().to_string();
    assert!(
        error.ends_with(
            "metrics.jsonl:2: a row of metrics cannot be recorded: `step` is missing or not a whole number"
        ),
        "{error}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Killed after any byte and resumed at any step that was saved, the file is that of an uninterrupted run.
    #[test]
    fn killed_and_resumed_equals_uninterrupted(steps in 1u64..12, killed_at in 0.0..1.0f64, saved in 0.0..1.0f64) {
        let whole = tempfile::tempdir().unwrap();
        let mut local = LocalFiles::create(whole.path(), "t").unwrap();
        for step in 1..=steps {
            local.log(&row(step)).unwrap();
        }
        let expected = fs::read(whole.path().join(METRICS_FILE)).unwrap();

        let saved_step = (saved * steps as f64) as u64;
        let after_saved = expected.split_inclusive(|b| *b == b'\n').take(saved_step as usize).map(<[u8]>::len).sum::<usize>();
        let cut = after_saved + (killed_at * (expected.len() - after_saved) as f64) as usize;
        let other = tempfile::tempdir().unwrap();
        fs::write(other.path().join(METRICS_FILE), &expected[..cut]).unwrap();
        let mut local = LocalFiles::resume(other.path(), "t", saved_step).unwrap();
        for step in saved_step + 1..=steps {
            local.log(&row(step)).unwrap();
        }
        prop_assert_eq!(fs::read(other.path().join(METRICS_FILE)).unwrap(), expected);
    }

    #[test]
    fn no_file_makes_resuming_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), step in any::<u64>()) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(METRICS_FILE), bytes).unwrap();
        LocalFiles::resume(dir.path(), "t", step).unwrap();
        read_rows(&dir.path().join(METRICS_FILE)).unwrap();
    }
}
