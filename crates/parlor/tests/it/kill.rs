//! SIGKILL at many moments of a run: resuming each time ends with the model of the run that was never killed.

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use crate::program::{command, parlor, thorough};
use crate::tiny::workplace;
use crate::train::metrics;

const LAST_KILL: u64 = 80;
/// A checkpoint every three steps, so that many kills fall into the writing of one.
const RUN: [&str; 7] = [
    "train",
    "--set",
    "training.from_scratch.save_steps=3",
    "--set",
    "training.from_scratch.eval_steps=7",
    "--max-steps",
    "96",
];

/// splitmix64: the moments are the same in every test run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// The last step in the metrics so far; 0 before there is one. The last line may be half written.
fn step(output: &Path) -> u64 {
    let text = std::fs::read_to_string(output.join("metrics.jsonl")).unwrap_or_default();
    let row = |line: &str| serde_json::from_str::<serde_json::Value>(line).ok()?["step"].as_u64();
    text.lines().rev().find_map(row).unwrap_or(0)
}

/// Lets the run reach `target`, then a moment more, and kills it. False when it ended before.
fn kill_at(mut child: Child, output: &Path, target: u64, more: Duration) -> bool {
    while step(output) < target {
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "{status}");
            return false;
        }
        std::thread::sleep(Duration::from_micros(500));
    }
    std::thread::sleep(more);
    child.kill().unwrap();
    // A run that ended in that very moment has a status of its own.
    child.wait().unwrap().code().is_none()
}

#[test]
fn killed_again_and_again_it_ends_as_if_never_killed() {
    let kills: u64 = if thorough() { 20 } else { 5 };
    let whole = workplace();
    parlor(whole.path(), &RUN).ok();
    let directory = workplace();
    let output = directory.path().join("out");
    let mut random = Random(20);
    let mut killed = 0;
    for number in 0..kills {
        // Targets rise through the run; the first ones fall into its beginning, before any step is done.
        let target = number * LAST_KILL / kills;
        let resume: &[&str] = if number == 0 { &[] } else { &["--resume"] };
        let mut command = command(directory.path(), &[&RUN[..], resume].concat());
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let more = Duration::from_micros(random.below(12_000));
        killed += u64::from(kill_at(child, &output, target, more));
    }
    // A kill may come just after the program has ended.
    assert!(killed >= kills - kills.div_ceil(10), "only {killed} of {kills} kills met a running program");
    parlor(directory.path(), &[&RUN[..], &["--resume"]].concat()).ok();
    let weights = |directory: &Path| std::fs::read(directory.join("out/model.safetensors")).unwrap();
    assert!(weights(directory.path()) == weights(whole.path()), "not the same bytes");
    assert_eq!(metrics(&output), metrics(&whole.path().join("out")));
    // And nothing half written is left.
    for entry in std::fs::read_dir(&output).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(!name.contains("tmp"), "{name} was left behind");
    }
}
