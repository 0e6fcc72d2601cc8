//! A disk that takes no more during a checkpoint. The limit is the shell's `ulimit -f`, in a process of its own.

use std::fs;
use std::process::Command;

use parlor_files::WriteError;
use parlor_train::TrainError;
use parlor_train::checkpoint::{list_checkpoints, open_checkpoint};

use crate::tiny::{self, LoopTest};

const DIRECTORY: &str = "PARLOR_TEST_FULL_DISK";

/// Runs this test binary's `limited_child` where no file can grow above `blocks` of 512 bytes.
fn run_limited(directory: &std::path::Path, blocks: u64) -> String {
    let script =
        format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" --exact disk::limited_child --nocapture");
    let output = Command::new("sh")
        .args(["-c", &script])
        .arg(std::env::current_exe().unwrap())
        .env(DIRECTORY, directory)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// Does nothing unless it is started by [`run_limited`].
#[test]
fn limited_child() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let directory = std::path::PathBuf::from(directory);
    let mut run = LoopTest::new(&directory);
    run.hyper.num_train_epochs = 3;
    run.hyper.save_steps = 7;
    run.resume = Some(open_checkpoint(&directory.join("checkpoint-5")).unwrap());
    let mut decoder = tiny::load_model(&directory.join("checkpoint-5"));
    let error = run.go(&mut decoder).0.unwrap_err();
    assert!(matches!(error, TrainError::Storage(WriteError::Full { .. })), "{error:?}");
    println!("ERROR: {error}");
}

#[test]
fn a_full_disk_ends_the_run_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = LoopTest::new(dir.path());
    run.hyper.num_train_epochs = 3;
    run.stop_after = Some(5);
    run.go(&mut tiny::decoder()).0.unwrap();
    // Room for the model, not for the optimizer's state.
    let model = fs::metadata(dir.path().join("checkpoint-5/model.safetensors")).unwrap().len();
    let text = run_limited(dir.path(), model / 512 + 2);
    assert!(text.contains("checkpoint-7") && text.contains("free on its disk"), "{text}");
    let steps: Vec<u64> = list_checkpoints(dir.path()).into_iter().map(|(step, _)| step).collect();
    assert_eq!(steps, [5]);
    assert!(open_checkpoint(&dir.path().join("checkpoint-5")).is_ok());
    let left: Vec<_> = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with(".tmp-"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}
