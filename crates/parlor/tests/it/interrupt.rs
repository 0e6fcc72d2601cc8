//! Signals that ask for an end: a run finishes its step and saves; what ignored a signal goes on doing so.
//!
//! `env` of GNU coreutils sets what each signal does, since a test may itself be started with some ignored.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::program::{Ended, command, parlor};
use crate::tiny::{model, text, workplace};

/// Long enough to be interrupted; the run that follows is the same one.
const LONG: [&str; 3] = ["train", "--set", "training.from_scratch.num_train_epochs=60"];

/// Starts the program with signals as `signals` has it, and waits until `begun`.
fn start(directory: &Path, signals: &[&str], args: &[&str], begun: &dyn Fn() -> bool) -> Child {
    let direct = command(directory, args);
    let mut command = Command::new("/usr/bin/env");
    command.env_clear().args(["--default-signal=INT,TERM,HUP"]).args(signals);
    command.arg("RAYON_NUM_THREADS=1").arg(direct.get_program()).args(args).current_dir(directory);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    while child.try_wait().unwrap().is_none() && !begun() {
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}

fn train(directory: &Path, signals: &[&str]) -> Child {
    let metrics = directory.join("out/metrics.jsonl");
    let begun = || metrics.metadata().is_ok_and(|metadata| metadata.len() > 0);
    start(directory, signals, &[&LONG[..], &["--json"]].concat(), &begun)
}

fn send(signal: &str, child: &Child) {
    assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
}

/// Waits for the end; a code of 1000 and more is that of a signal.
fn end(mut child: Child) -> Ended {
    use std::os::unix::process::ExitStatusExt;
    // Its input stays open: the end of that would end a chat too.
    let _input = child.stdin.take();
    let output = child.wait_with_output().unwrap();
    let status = output.status;
    Ended {
        code: status.code().unwrap_or_else(|| 1000 + status.signal().unwrap()),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn interrupted(directory: &Path, ended: &Ended) {
    assert_eq!(ended.code, 130, "{}", ended.stderr);
    let value: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(value["outcome"], "interrupted");
    let steps = value["steps"].as_u64().unwrap();
    assert!(directory.join(format!("out/checkpoint-{steps}/model.safetensors")).is_file());
    for said in ["Finishing this step", "--resume"] {
        assert!(ended.stderr.contains(said), "{}", ended.stderr);
    }
}

#[test]
fn an_interrupted_run_saves_exits_130_and_goes_on_to_the_same_end() {
    let directory = workplace();
    let child = train(directory.path(), &[]);
    send("-INT", &child);
    interrupted(directory.path(), &end(child));
    parlor(directory.path(), &[&LONG[..], &["--resume"]].concat()).ok();
    let whole = workplace();
    parlor(whole.path(), &LONG).ok();
    let weights = |directory: &Path| std::fs::read(directory.join("out/model.safetensors")).unwrap();
    assert!(weights(directory.path()) == weights(whole.path()), "not the same bytes");
}

#[test]
fn in_the_background_a_closed_terminal_ends_nothing_and_kill_saves() {
    let directory = workplace();
    // As `nohup parlor train &` in a script starts it.
    let child = train(directory.path(), &["--ignore-signal=HUP,INT"]);
    send("-HUP", &child);
    send("-INT", &child);
    std::thread::sleep(Duration::from_millis(50));
    send("-TERM", &child);
    interrupted(directory.path(), &end(child));
}

#[test]
fn a_signal_asks_for_a_checkpoint_and_the_run_goes_on() {
    let directory = workplace();
    let metrics = directory.path().join("out/metrics.jsonl");
    let begun = || metrics.metadata().is_ok_and(|metadata| metadata.len() > 0);
    let args = [&LONG[..], &["--set", "training.from_scratch.save_steps=0", "--json"]].concat();
    let child = start(directory.path(), &[], &args, &begun);
    send("-USR1", &child);
    let ended = end(child);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(ended.stderr.contains("Saving a checkpoint"), "{}", ended.stderr);
    let steps = serde_json::from_str::<Value>(&ended.stdout).unwrap()["steps"].as_u64().unwrap();
    let saved = std::fs::read_dir(directory.path().join("out")).unwrap().filter_map(|entry| {
        entry.unwrap().file_name().to_str()?.strip_prefix("checkpoint-")?.parse::<u64>().ok()
    });
    let saved: Vec<u64> = saved.collect();
    assert!(saved.len() == 2 && saved.contains(&steps), "checkpoints of steps {saved:?} of {steps}");
}

#[test]
fn a_chat_that_waits_for_a_question_ends_at_once() {
    let model = model();
    let args = ["chat", "-m", text(&model), "--max-tokens", "1", "--json"];
    let mut child = start(model.parent().unwrap(), &[], &args, &|| true);
    child.stdin.as_mut().unwrap().write_all(b"Hello?\n").unwrap();
    let mut answer = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut answer).unwrap();
    assert!(answer.contains("finish_reason"), "{answer}");
    // After the answer it soon waits again; before that, the signal stops the answer and the end of input the chat.
    std::thread::sleep(Duration::from_millis(100));
    send("-INT", &child);
    let ended = end(child);
    assert_eq!(ended.code, 130, "{}", ended.stderr);
}
